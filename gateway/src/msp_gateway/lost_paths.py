"""Paths that are nearly right: a 404 that says which one was meant."""

import re
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import NotFound
from msp_common.request_ids import HEADER, request_id_for


class LostPaths:
    """ASGI middleware beneath the relayed paths; `known` are all paths of the OpenAI API that there are."""

    def __init__(self, app: ASGIApp, known: Collection[str]) -> None:
        self.app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        advice = advice_for(scope["path"], self._known) if scope["type"] == "http" else None
        if advice is None:
            await self.app(scope, receive, send)
            return
        asked = f"{scope['method']} {scope['path'][:200]}"
        response = error_response(NotFound(f"No such route: {asked}. {advice}."))
        response.headers[HEADER] = request_id_for(dict(scope["headers"]))
        await response(scope, receive, send)


def advice_for(path: str, known: Collection[str]) -> str | None:
    """What to write instead of this path; None where it is right, or means nothing that is known."""
    if path in known:
        return None
    plain = re.sub("/+", "/", path).rstrip("/")
    if re.match("/v1(/v1)+(/|$)", plain):
        short = re.sub("^/v1(/v1)+", "/v1", plain)
        return f"/v1 is there more than once: the base URL ends in /v1 already, ask {short}"
    if plain in known and plain != path:
        return f"Ask {plain}, without further slashes"
    return f"Ask /v1{plain}: the base URL ends in /v1" if f"/v1{plain}" in known else None
