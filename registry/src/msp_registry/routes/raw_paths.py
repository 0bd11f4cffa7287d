"""Paths as they were sent, brought to a form that routes can match: one segment for each name in them. Pure.

The server decodes paths before routing, so that a route cannot tell `/models/a%2Fb` from `/models/a/b`, nor
where a revision such as `refs%2Fpr%2F1` ends. The undecoded path can, and it is what is read here. Ids have
one or two segments; what follows an id begins with a literal word, such as `resolve`. Afterwards each id,
revision and hub path is one segment, percent-encoded; routes decode it again.

Where two readings are possible, the id of two segments wins: hardly any model has only one.
"""

from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from msp_registry.layout import is_commit

MODEL_ACTIONS = {
    "download": frozenset({"POST"}),
    "import": frozenset({"POST"}),
    "verify": frozenset({"POST"}),
    "archive": frozenset({"GET", "HEAD", "PUT"}),
    "refs": frozenset({"GET"}),
}
"""Last segment of the routes below a model, and their methods; `name/download` is otherwise a possible id."""

REF_METHODS = frozenset({"GET", "PUT", "DELETE"})
"""Methods of `/models/{id}/refs/{ref}`."""

OWN_PREFIXES = frozenset({"api", "docs", "files", "gc", "health", "jobs", "livez", "metrics", "models", "v1"})
"""First segments that are the registry's own: no model's files are resolved below them. The hub reserves
most of these words, so that no organisation is called so."""

_LONG_REVISIONS = frozenset({"pr", "convert"})


def one_segment_ids(method: str, raw_path: str) -> str | None:
    """The path to route on, the names in it percent-encoded; None where there is nothing to change."""
    parts = raw_path.split("/")
    if len(parts) < 3 or parts[0] or not parts[2]:
        return None
    first, rest = parts[1], parts[2:]
    if first == "models":
        return _own_model(method, rest)
    if first == "files":
        return _own_file(rest)
    if first == "v1" and rest[0] == "models" and len(rest) > 1:
        return f"/v1/models/{_one(rest[1:])}"
    if first == "api" and rest[0] == "models" and len(rest) > 1:
        return _hub_api(rest[1:])
    if first not in OWN_PREFIXES:
        return _hub_file(parts[1:])
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


def _id_lengths(segments: list[str]) -> tuple[int, ...]:
    """How many segments the id at the beginning may have, the likelier first."""
    return (1,) if "/" in unquote(segments[0]) else (2, 1)


def _own_model(method: str, rest: list[str]) -> str:
    if method in REF_METHODS:
        for n in _id_lengths(rest):
            if rest[n : n + 1] == ["refs"] and any(rest[n + 1 :]):
                return f"/models/{_one(rest[:n])}/refs/{_one(rest[n + 1 :])}"
    action = rest[-1]
    if len(rest) > 1 and method in MODEL_ACTIONS.get(action, ()):
        return f"/models/{_one(rest[:-1])}/{action}"
    return f"/models/{_one(rest)}"


def _own_file(rest: list[str]) -> str | None:
    # The first commit ends the id: no id's last segment looks like one.
    ends = next((n for n in range(1, len(rest)) if is_commit(rest[n])), None)
    if ends is None:
        return None
    return "/".join(["", "files", _one(rest[:ends]), *(unquote(part) for part in rest[ends:])])


def _hub_api(rest: list[str]) -> str | None:
    """What comes after `/api/models/`. None leaves the path to the answer for unknown calls."""
    for n in _id_lengths(rest):
        if len(rest) > n:
            tail = _hub_call(rest[n], rest[n + 1 :])
            if tail is not None:
                return f"/api/models/{_one(rest[:n])}/{tail}"
    return f"/api/models/{_one(rest)}" if len(rest) <= max(_id_lengths(rest)) else None


def _hub_call(word: str, arguments: list[str]) -> str | None:
    if word == "refs":
        return None if arguments else word
    if word not in ("revision", "tree", "paths-info", "commits") or not any(arguments):
        return None
    # A folder may be written with a slash at its end.
    revision, path = _revision_and_path(arguments if arguments[-1] else arguments[:-1])
    if not path:
        return f"{word}/{revision}"
    return f"{word}/{revision}/{path}" if word == "tree" else None


def _hub_file(parts: list[str]) -> str | None:
    """`{id}/resolve/{revision}/{path}`; None for anything else."""
    for n in _id_lengths(parts):
        if parts[n : n + 1] == ["resolve"] and len(parts) > n + 2:
            revision, path = _revision_and_path(parts[n + 1 :])
            if path:
                return f"/{_one(parts[:n])}/resolve/{revision}/{path}"
    return None


def _revision_and_path(segments: list[str]) -> tuple[str, str]:
    """Each as one segment. The hub also takes `refs/pr/1` unencoded, and so do we."""
    long = len(segments) > 2 and segments[0] == "refs" and segments[1] in _LONG_REVISIONS
    ends = 3 if long else 1
    return _one(segments[:ends]), _one(segments[ends:])


def _one(segments: list[str]) -> str:
    return quote("/".join(unquote(segment) for segment in segments), safe="")
