"""Bytes out of the store as the body of an answer."""

from collections.abc import AsyncGenerator, Mapping

import anyio
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from msp_common.errors import Conflict, InternalError
from msp_registry.metrics import Metrics
from msp_registry.routes.byte_ranges import Span
from msp_registry.routes.context import Parts
from msp_registry.stores.store import NoSuchObject
from msp_registry.upkeep.quarantine import fault_in


class StoredBytes(StreamingResponse):
    """A stream out of the store: what is sent counts as served, and it is closed however the answer ends."""

    def __init__(
        self,
        metrics: Metrics,
        data: AsyncGenerator[bytes, None],
        status_code: int,
        headers: Mapping[str, str],
        media_type: str = "application/octet-stream",
    ) -> None:
        super().__init__(_counted(metrics, data), status_code, headers, media_type=media_type)
        self._data = data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._data.aclose()


async def refuse_quarantined(parts: Parts, repo_id: str, commit: str, path: str) -> None:
    """Raises Conflict for a file that is no longer what its manifest says, with the remedy."""
    reason = fault_in(await parts.quarantine.of(repo_id, commit), path)
    if reason is not None:
        raise Conflict(
            f"{path} of {repo_id}@{commit} is damaged in the store and is not served: {reason}. Repair it "
            f"with POST /models/{repo_id}/verify, or import the same files again.",
            param="path",
            code="file_quarantined",
        )


async def open_stored(parts: Parts, key: str, span: Span) -> AsyncGenerator[bytes, None]:
    """The stream, its first piece read already: a missing object is then an error, not a broken body.

    Raises InternalError and StoreError.
    """
    data = parts.store.get(key, span.first, span.length)
    try:
        first = await anext(data, b"")
    except NoSuchObject:
        raise InternalError(f"The store has lost {key}; delete the model and bring it again.") from None
    if not first and span.length:
        raise InternalError(f"{key} is shorter in the store than its manifest says; bring the model again.")

    async def whole() -> AsyncGenerator[bytes, None]:
        try:
            yield first
            async for chunk in data:
                yield chunk
        finally:
            await data.aclose()

    return whole()


async def _counted(metrics: Metrics, data: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async for chunk in data:
        metrics.served_bytes.inc(len(chunk))
        yield chunk
