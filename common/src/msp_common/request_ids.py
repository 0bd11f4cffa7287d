"""Every request has an id: the client's own if it sent a usable one, else a new one."""

import re
from collections.abc import Mapping
from random import getrandbits

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msp_common.logs import REQUEST_ID

HEADER = "x-request-id"
# The second is the header that OpenAI documents for ids that the client chooses.
_OWN, _OPENAIS = HEADER.encode(), b"x-client-request-id"
_USABLE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id_for(fields: Mapping[bytes, bytes]) -> str:
    """The id that the client chose in these header fields, if it is short plain ASCII, else a new one."""
    for name in (_OWN, _OPENAIS):
        if name in fields and _USABLE.fullmatch(chosen := fields[name].decode("latin-1")):
            return chosen
    # No secret: nobody gains by guessing one. The operating system is not asked for each.
    return f"req_{getrandbits(128):032x}"


class RequestIdMiddleware:
    """Puts the id into the log context, into `scope["state"]["request_id"]`, and on the answer.

    Plain ASGI: Starlette's BaseHTTPMiddleware would buffer streams and hide disconnects.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_for(dict(scope["headers"]))
        scope.setdefault("state", {})["request_id"] = request_id
        token = REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            REQUEST_ID.reset(token)
