"""Model ids in URL paths: `org/name` raw or as `org%2Fname`, brought to one form before routing.

The server decodes paths before routing, so that a route cannot tell `/models/a%2Fb` from `/models/a/b`. The
undecoded path can, and it is what is read here; afterwards an id is always one segment.
"""

from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from msp_registry.layout import is_commit

ACTIONS = frozenset({("POST", "download"), ("POST", "import")})
"""Method and last segment of the routes below a model; `name/download` is otherwise a possible id."""


def one_segment_ids(method: str, raw_path: str) -> str | None:
    """The decoded path to route on, its model id percent-encoded; None where there is no id."""
    parts = raw_path.split("/")
    if len(parts) < 3 or parts[0] or not parts[2]:
        return None
    if parts[1] == "models":
        tail = parts[2:]
        action = tail.pop() if len(tail) > 1 and (method, tail[-1]) in ACTIONS else None
        return "/".join(["", "models", _encoded(tail), *([action] if action else [])])
    if parts[1] == "files":
        # The first commit ends the id: no id's last segment looks like one.
        ends = next((n for n in range(3, len(parts)) if is_commit(parts[n])), None)
        if ends is not None:
            path = [unquote(part) for part in parts[ends:]]
            return "/".join(["", "files", _encoded(parts[2:ends]), *path])
    return None


class OneSegmentIds:
    """Middleware that puts such a path into the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and scope.get("raw_path"):
            path = one_segment_ids(scope["method"], scope["raw_path"].decode("latin-1"))
            if path is not None:
                scope = {**scope, "path": path}
        await self.app(scope, receive, send)


def _encoded(segments: list[str]) -> str:
    return quote("/".join(unquote(segment) for segment in segments), safe="")
