"""Takes the relayed paths out before FastAPI's routing, which costs more than the relay itself."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import MethodNotAllowed
from msp_common.http_app import bug_response
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
            await answering_bugs(partial(self._serve, path))(scope, receive, send)
        else:
            response = error_response(
                MethodNotAllowed(f"{path.path} does not answer {scope['method']}, only POST.")
            )
            response.headers["Allow"] = "POST"
            response.headers[HEADER] = request_id_for(dict(scope["headers"]))
            await response(scope, receive, send)


class _Answer:
    """A `send` that knows whether it was used. No coroutine of its own: it is called for every event."""

    __slots__ = ("_send", "begun")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    def __call__(self, message: Message) -> Awaitable[None]:
        self.begun = True
        return self._send(message)


def answering_bugs(serve: ASGIApp) -> ASGIApp:
    """The same, with an answer for exceptions that nobody expected."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            await serve(scope, receive, answer)
        except Exception as error:
            if answer.begun:
                raise  # the server breaks the answer off
            await bug_response(scope, error)(scope, receive, send)

    return served


def entrance(app: FastAPI) -> ASGIApp:
    """The application as a server calls it: without the coroutines that FastAPI puts around everything."""
    stack = app.middleware_stack or app.build_middleware_stack()

    def enter(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope["app"] = app
        return stack(scope, receive, send)

    return enter


def put_relay_outside(app: FastAPI) -> None:
    """Move the dispatcher, and the middleware around it, out of FastAPI's own layers.

    Those (telemetry, a body limit, the handler of unexpected errors) wrap every message of every answer.
    Call it when all middleware has been added.
    """
    layers = app.user_middleware
    inside = next(i for i, layer in enumerate(layers) if layer.cls is RelayDispatcher) + 1  # type: ignore[comparison-overlap]
    app.user_middleware = layers[inside:]
    stack: ASGIApp = app.build_middleware_stack()
    for layer in reversed(layers[:inside]):
        stack = layer.cls(stack, *layer.args, **layer.kwargs)
    app.middleware_stack = stack
