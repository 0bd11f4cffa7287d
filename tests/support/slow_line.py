"""An ASGI application behind a line of a given speed, so that a test finds transfers half done."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class SlowLine:
    """All bodies together go out at `bytes_per_s`; the application's pieces should be small."""

    def __init__(self, app: ASGIApp, *, bytes_per_s: float) -> None:
        self._app = app
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""

        async def send_in_turn(message: Message) -> None:
            now = asyncio.get_running_loop().time()
            n_bytes = len(message.get("body", b""))
            self._free_at = max(self._free_at, now) + n_bytes / self._bytes_per_s
            await asyncio.sleep(self._free_at - now)
            await send(message)

        await self._app(scope, receive, send_in_turn)
