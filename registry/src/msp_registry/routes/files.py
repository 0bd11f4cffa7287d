"""The bytes of a snapshot's files, through the registry itself."""

from collections.abc import AsyncGenerator, Mapping

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from msp_common.contracts.models import ManifestFile
from msp_common.error_response import error_response
from msp_common.errors import InternalError, InvalidRequest, ModelNotFound, NotFound
from msp_registry.byte_ranges import Span, Unsatisfiable, requested_span
from msp_registry.catalogue import NoSuchModel
from msp_registry.layout import file_key, is_commit
from msp_registry.routes.context import ModelId, Parts, PartsDep
from msp_registry.store import NoSuchObject

router = APIRouter(tags=["files"])


class StoredBytes(StreamingResponse):
    """A stream out of the store, which is closed however the answer ends."""

    def __init__(
        self, data: AsyncGenerator[bytes, None], status_code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(data, status_code, headers, media_type="application/octet-stream")
        self._data = data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._data.aclose()


@router.head("/files/{name}/{commit}/{path:path}", summary="Size and hash of one file")
@router.get("/files/{name}/{commit}/{path:path}", summary="The bytes of one file, or a range of them")
async def get_file(repo_id: ModelId, commit: str, path: str, request: Request, parts: PartsDep) -> Response:
    """`ETag` is the file's sha256. `Range` gives 206, or 416 when it begins behind the end."""
    file = await _file(parts, repo_id, commit, path)
    etag = f'"{file.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "public, max-age=31536000, immutable"}
    span = None
    if request.headers.get("if-range", etag) == etag:
        try:
            span = requested_span(request.headers.get("range"), file.size_bytes)
        except Unsatisfiable:
            return _unsatisfiable(file)
    first, length = (span.first, span.length) if span else (0, file.size_bytes)
    headers["Content-Length"] = str(length)
    if span:
        headers["Content-Range"] = span.content_range(file.size_bytes)
    status = 206 if span else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/octet-stream")
    data = await _opened(parts, file_key(repo_id, commit, path), Span(first, length))
    return StoredBytes(data, status, headers)


async def _file(parts: Parts, repo_id: str, commit: str, path: str) -> ManifestFile:
    if not is_commit(commit):
        raise InvalidRequest(f"{commit[:80]!r} is no commit of 40 hex digits.", param="commit")
    try:
        manifest = await parts.catalogue.manifest(repo_id, commit)
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}.", param="name") from None
    file = next((f for f in manifest.files if f.path == path), None)
    if file is None:
        raise NotFound(f"{repo_id}@{commit} has no file {path[:200]!r}.", param="path", code="file_not_found")
    return file


async def _opened(parts: Parts, key: str, span: Span) -> AsyncGenerator[bytes, None]:
    """The stream, its first piece read already: a missing object is then an error, not a broken body."""
    data = parts.store.get(key, span.first, span.length)
    try:
        first = await anext(data, b"")
    except NoSuchObject:
        raise InternalError(f"The store has lost {key}; delete the model and bring it again.") from None
    if not first and span.length:
        raise InternalError(f"{key} is shorter in the store than its manifest says; bring the model again.")

    async def counted() -> AsyncGenerator[bytes, None]:
        try:
            parts.metrics.served_bytes.inc(len(first))
            yield first
            async for chunk in data:
                parts.metrics.served_bytes.inc(len(chunk))
                yield chunk
        finally:
            await data.aclose()

    return counted()


def _unsatisfiable(file: ManifestFile) -> Response:
    error = InvalidRequest(
        f"The range begins behind the end: {file.path} has {file.size_bytes} bytes.",
        param="Range",
        code="range_not_satisfiable",
    )
    response = error_response(error)
    response.status_code = 416
    response.headers["Content-Range"] = f"bytes */{file.size_bytes}"
    return response
