"""A limit on request bodies that counts bytes, so that chunked uploads are bounded too."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import PayloadTooLarge

TakesStream = Callable[[Scope], bool]
"""Whether a connection's route reads its body piece by piece and bounds it by itself."""


class BodyLimitMiddleware:
    """Answers 413 as soon as a body is announced, or turns out, to be longer than `limit_bytes`."""

    def __init__(self, app: ASGIApp, limit_bytes: int, takes_stream: TakesStream | None = None) -> None:
        self.app = app
        self.limit_bytes = limit_bytes
        self.takes_stream = takes_stream

    def _error(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The body is larger than the limit of {self.limit_bytes} bytes.", param="body"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or (self.takes_stream is not None and self.takes_stream(scope)):
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > self.limit_bytes:
            await error_response(self._error())(scope, receive, send)
            return
        seen, over = 0, False

        async def counted() -> Message:
            nonlocal seen, over
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit_bytes:
                over = True
                raise self._error()
            return message

        started = False

        async def remembered(message: Message) -> None:
            nonlocal started
            if over and not started:
                return  # FastAPI turns whatever goes wrong while it reads a body into a 400 of its own
            started = True
            await send(message)

        try:
            await self.app(scope, counted, remembered)
        except PayloadTooLarge as error:
            if started:
                raise
            await error_response(error)(scope, receive, send)
            return
        if over and not started:
            await error_response(self._error())(scope, receive, send)
