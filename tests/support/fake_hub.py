"""A hub that speaks Hugging Face's protocol, with a knob for everything that goes wrong with real ones.

Serve it with `run_server(hub.app)`. It remembers every request, and whether a token came with it.
"""

import hashlib
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

COMMIT = "c0ffee" * 6 + "abcd"
LFS_SUFFIXES = (".safetensors", ".bin", ".gguf")


@dataclass
class Seen:
    """One request."""

    path: str
    range: str | None
    authorization: str | None


@dataclass
class FakeRepo:
    """One model on the hub."""

    files: dict[str, bytes]
    commit: str = COMMIT
    refs: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    gated: bool = False
    private: bool = False


@dataclass
class FakeHub:
    """The hub, its knobs, and what it saw."""

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    page_size: int = 1000
    accepted_token: str | None = None
    """The token that opens gated and private models."""
    wrong_bytes: set[str] = field(default_factory=set)
    """Paths of which one byte is changed."""
    cut_after: int | None = None
    """Bodies of large files end, with their connection, after so many bytes."""
    ignore_range: bool = False
    second_origin: str | None = None
    """Large files are redirected to this base URL; serve the same hub there too."""
    busy: list[int] = field(default_factory=list)
    """Statuses that the next requests get, with `Retry-After: 7`."""
    extra_entries: list[dict[str, Any]] = field(default_factory=list)
    """More entries for every tree."""
    link_host: str | None = None
    """What links to the next page begin with, as on mirrors that leave the original host in them."""
    seen: list[Seen] = field(default_factory=list)

    @property
    def app(self) -> FastAPI:
        """The ASGI application."""
        app = FastAPI(openapi_url=None)

        @app.get("/api/models/{repo_id:path}/revision/{revision:path}")
        async def revision(request: Request, repo_id: str, revision: str) -> Response:
            refused = self._note(request) or self._hidden(request, repo_id)
            if refused is not None:
                return refused
            repo = self.repos[repo_id]
            commit = repo.commit if revision == repo.commit else repo.refs.get(revision)
            if commit is None:
                return _error(404, "RevisionNotFound")
            return JSONResponse({"id": repo_id, "sha": commit, "gated": "auto" if repo.gated else False})

        @app.get("/api/models/{repo_id:path}/tree/{commit}")
        async def tree(request: Request, repo_id: str, commit: str, cursor: int = 0) -> Response:
            refused = self._note(request) or self._hidden(request, repo_id)
            if refused is not None:
                return refused
            entries = self._entries(self.repos[repo_id])
            page = entries[cursor : cursor + self.page_size]
            headers = {}
            if cursor + self.page_size < len(entries):
                base = self.link_host or str(request.base_url).rstrip("/")
                query = f"recursive=true&expand=false&cursor={cursor + self.page_size}"
                headers["Link"] = f'<{base}{request.url.path}?{query}>; rel="next"'
            return JSONResponse(page, headers=headers)

        @app.get("/{repo_id:path}/resolve/{commit}/{path:path}")
        async def resolve(request: Request, repo_id: str, commit: str, path: str) -> Response:
            refused = self._note(request) or self._hidden(request, repo_id) or self._gate(request, repo_id)
            if refused is not None:
                return refused
            repo = self.repos[repo_id]
            if commit != repo.commit or path not in repo.files:
                return _error(404, "EntryNotFound")
            if self.second_origin and path.endswith(LFS_SUFFIXES):
                return RedirectResponse(f"{self.second_origin}/cdn/{repo_id}/{path}?signature=1", 302)
            return self._body(request, repo.files[path], path)

        @app.get("/cdn/{rest:path}")
        async def cdn(request: Request, rest: str) -> Response:
            refused = self._note(request)
            if refused is not None:
                return refused
            repo_id, path = next((r, rest[len(r) + 1 :]) for r in self.repos if rest.startswith(f"{r}/"))
            return self._body(request, self.repos[repo_id].files[path], path)

        return app

    def ranges_of(self, path: str) -> list[str | None]:
        """The Range headers of the requests for one file, in order."""
        return [seen.range for seen in self.seen if "/resolve/" in seen.path and seen.path.endswith(path)]

    def _note(self, request: Request) -> Response | None:
        headers = request.headers
        self.seen.append(Seen(request.url.path, headers.get("range"), headers.get("authorization")))
        return Response(status_code=self.busy.pop(0), headers={"Retry-After": "7"}) if self.busy else None

    def _hidden(self, request: Request, repo_id: str) -> Response | None:
        token = request.headers.get("authorization")
        if token is not None and token != f"Bearer {self.accepted_token}" and not self._is_gated(repo_id):
            return JSONResponse({"error": "bad"}, 401, {"X-Error-Message": "Invalid credentials"})
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and token is None):
            return _error(401 if token is None else 404, "RepoNotFound")
        return None

    def _is_gated(self, repo_id: str) -> bool:
        return repo_id in self.repos and self.repos[repo_id].gated

    def _gate(self, request: Request, repo_id: str) -> Response | None:
        token = request.headers.get("authorization")
        if not self.repos[repo_id].gated or token == f"Bearer {self.accepted_token}":
            return None
        return _error(401 if token is None else 403, "GatedRepo")

    def _entries(self, repo: FakeRepo) -> list[dict[str, Any]]:
        folders = sorted({path.rsplit("/", 1)[0] for path in repo.files if "/" in path})
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "path": f} for f in folders]
        for path, data in repo.files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
            if path.endswith(LFS_SUFFIXES):
                sha256 = hashlib.sha256(data).hexdigest()
                entry |= {"oid": "1" * 40, "lfs": {"oid": sha256, "size": len(data), "pointerSize": 134}}
            else:
                entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entries.append(entry)
        return entries + self.extra_entries

    def _body(self, request: Request, data: bytes, path: str) -> Response:
        if path in self.wrong_bytes:
            data = bytes([data[0] ^ 1]) + data[1:]
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        headers = {"X-Repo-Commit": COMMIT}
        status = 200
        if match and not self.ignore_range:
            headers["Content-Range"] = f"bytes {match[1]}-{len(data) - 1}/{len(data)}"
            data, status = data[int(match[1]) :], 206
        headers["Content-Length"] = str(len(data))
        if self.cut_after is not None and path.endswith(LFS_SUFFIXES) and len(data) > self.cut_after:
            return _Cut(data[: self.cut_after], status, headers)
        return Response(data, status, headers)


class _Cut(StreamingResponse):
    """Announces more than it sends, and then breaks the connection."""

    def __init__(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        async def body() -> AsyncGenerator[bytes, None]:
            yield data

        super().__init__(body(), status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def cut(message: Any) -> None:
            # The last, empty message would be checked against the announced length by the server, which
            # then logs an error of its own; without it the connection is simply closed.
            if message["type"] != "http.response.body" or message.get("more_body"):
                await send(message)

        await super().__call__(scope, receive, cut)


def _error(status: int, code: str) -> Response:
    return JSONResponse({"error": code}, status, {"X-Error-Code": code})
