"""Streams that a client can tell from half of one."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.types import Send

from msp_common import sse
from msp_model_service.routes.leaving import ClosingStream, unless_client_leaves


class EventStreamResponse(ClosingStream):
    """Server-sent events that end with `sse.DONE`; where they end without it the connection is cut off."""

    async def stream_response(self, send: Send) -> None:
        """Send the head and the frames."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last: object = b""
        async for last in self.body_iterator:
            await send({"type": "http.response.body", "body": last, "more_body": True})
        if last == sse.DONE:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def event_stream(
    request: Request,
    frames: AsyncGenerator[bytes, None],
    resources: AsyncExitStack,
    fields: Mapping[str, str] | None = None,
) -> EventStreamResponse:
    """The response, once the first frame is there: what fails before it is an ordinary error with a status.

    `fields` are further ones of its head. Takes `resources` over. Raises ClientDisconnect.
    """
    resources.push_async_callback(frames.aclose)
    first = await unless_client_leaves(request, anext(frames))

    async def all_frames() -> AsyncGenerator[bytes, None]:
        yield first
        async for frame in frames:
            yield frame

    return EventStreamResponse(
        all_frames(),
        resources.pop_all(),
        media_type=sse.MEDIA_TYPE,
        headers={**sse.HEADERS, **(fields or {})},
    )
