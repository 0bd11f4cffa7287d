"""Takes the relayed paths out before FastAPI's routing, which costs more than the relay itself."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import MethodNotAllowed
from msp_common.request_ids import HEADER, request_id_for
from msp_gateway.paths import RelayPath

Serve = Callable[[RelayPath, Scope, Receive, Send], Awaitable[None]]


class RelayDispatcher:
    """ASGI middleware: POSTs to the relayed paths go to `serve`, all else to the application."""

    def __init__(self, app: ASGIApp, paths: Mapping[str, RelayPath], serve: Serve) -> None:
        self.app = app
        self._paths = paths
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        path = self._paths.get(scope["path"]) if scope["type"] == "http" else None
        if path is None:
            await self.app(scope, receive, send)
        elif scope["method"] == "POST":
            await self._serve(path, scope, receive, send)
        else:
            response = error_response(
                MethodNotAllowed(f"{path.path} does not answer {scope['method']}, only POST.")
            )
            response.headers["Allow"] = "POST"
            response.headers[HEADER] = request_id_for(Headers(scope=scope))
            await response(scope, receive, send)
