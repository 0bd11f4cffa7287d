"""A hub that speaks Hugging Face's protocol, with a knob for everything that goes wrong with real ones.

Serve it with `run_server(hub.app)`. It remembers every request, whether a token came with it, and how many
bytes of each file it sent. Knobs for bodies are in `fake_hub_bodies`.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from support.fake_hub_bodies import BodyFaults

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
    disabled: bool = False
    others: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of further commits."""
    main_moves_to: list[str] = field(default_factory=list)
    """What `main` names after the next answers that resolved a revision, one each."""
    info: dict[str, Any] = field(default_factory=dict)
    """More fields of the model's description."""

    def files_at(self, commit: str) -> dict[str, bytes] | None:
        """The files of one commit."""
        return self.files if commit == self.commit else self.others.get(commit)


@dataclass
class FakeHub(BodyFaults):
    """The hub, its knobs, and what it saw."""

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    page_size: int = 1000
    accepted_token: str | None = None
    """The token that opens gated and private models."""
    second_origin: str | None = None
    """Large files are redirected to this base URL; serve the same hub there too."""
    resolve_cache: bool = False
    """Small files are redirected to another address of the same hub, by a relative link."""
    xet: bool = False
    """Large files are offered by the other protocol, too."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Old name → new name; the old one is redirected."""
    busy: list[int] = field(default_factory=list)
    """Statuses that the next requests get, with `busy_headers`."""
    busy_headers: dict[str, str] = field(default_factory=lambda: {"Retry-After": "7"})
    busy_paths: str = ""
    """Only requests whose path contains this are refused so."""
    rate_limits: list[str] = field(default_factory=list)
    """`RateLimit` headers of the next answers of the API."""
    signature_uses: int | None = None
    """How many requests each address at the second origin is good for; set it on the hub that serves it."""
    signed: int = 0
    expired_left: int = 0
    """How many more requests to the second origin's addresses are refused, as a signature's end does."""
    extra_entries: list[dict[str, Any]] = field(default_factory=list)
    """More entries for every tree."""
    tree_sizes: dict[str, int] = field(default_factory=dict)
    """Path → the size that the tree says."""
    link_host: str | None = None
    """What links to the next page begin with, as on mirrors that leave the original host in them."""
    seen: list[Seen] = field(default_factory=list)
    uses: Counter[str] = field(default_factory=Counter)
    hashed: dict[int, tuple[bytes, str]] = field(default_factory=dict)

    @cached_property
    def app(self) -> FastAPI:
        """The ASGI application."""
        app = FastAPI(openapi_url=None)
        app.get("/api/models/{repo_id:path}/revision/{revision:path}")(self._revision)
        app.get("/api/models/{repo_id:path}/tree/{commit}")(self._tree)
        app.get("/api/resolve-cache/models/{org}/{name}/{commit}/{path:path}")(self._cached)
        app.get("/cdn/{rest:path}")(self._cdn)
        app.get("/{repo_id:path}/resolve/{commit}/{path:path}")(self._resolve)
        return app

    @property
    def sent_bytes(self) -> int:
        """Of all files' contents together."""
        return sum(self.sent.values())

    def ranges_of(self, path: str) -> list[str | None]:
        """The Range headers of the requests for one file, in order; the probe for one byte is left out."""
        return [
            seen.range
            for seen in self.seen
            if "/resolve/" in seen.path and seen.path.endswith(path) and seen.range != "bytes=0-0"
        ]

    async def _revision(self, request: Request, repo_id: str, revision: str) -> Response:
        refused = self._note(request) or self._renamed(request, repo_id) or self._hidden(request, repo_id)
        if refused is not None:
            return refused
        repo = self.repos[repo_id]
        commit = revision if repo.files_at(revision) is not None else repo.refs.get(revision)
        if commit is None:
            return _error(404, "RevisionNotFound")
        if repo.main_moves_to:
            repo.refs["main"] = repo.main_moves_to.pop(0)
        gated = "auto" if repo.gated else False
        return self._api(
            {"id": repo_id, "sha": commit, "gated": gated, "private": repo.private, **repo.info}, {}
        )

    async def _tree(self, request: Request, repo_id: str, commit: str, cursor: int = 0) -> Response:
        refused = self._note(request) or self._renamed(request, repo_id) or self._hidden(request, repo_id)
        if refused is not None:
            return refused
        repo = self.repos[repo_id]
        files = repo.files_at(repo.refs.get(commit, commit))
        if files is None:
            return _error(404, "RevisionNotFound")
        entries = self._entries(files)
        headers = {}
        if cursor + self.page_size < len(entries):
            base = self.link_host or str(request.base_url).rstrip("/")
            query = f"recursive=true&expand=false&cursor={cursor + self.page_size}"
            headers["Link"] = f'<{base}{request.url.path}?{query}>; rel="next"'
        return self._api(entries[cursor : cursor + self.page_size], headers)

    async def _resolve(self, request: Request, repo_id: str, commit: str, path: str) -> Response:
        refused = (
            self._note(request)
            or self._renamed(request, repo_id)
            or self._hidden(request, repo_id)
            or self._gate(request, repo_id)
        )
        if refused is not None:
            return refused
        files = self.repos[repo_id].files_at(commit)
        if files is None or path not in files:
            return _error(404, "EntryNotFound")
        if path.endswith(LFS_SUFFIXES):
            if self.second_origin:
                self.signed += 1
                place = f"{self.second_origin}/cdn/{repo_id}/{path}?commit={commit}&signature={self.signed}"
                return RedirectResponse(place, 302, headers=self._xet_headers(files[path]))
        elif self.resolve_cache:
            return RedirectResponse(f"/api/resolve-cache/models/{repo_id}/{commit}/{path}?etag=1", 307)
        return await self._file(request, files, commit, path)

    async def _cached(self, request: Request, org: str, name: str, commit: str, path: str) -> Response:
        refused = self._note(request) or self._gate(request, f"{org}/{name}")
        files = self.repos[f"{org}/{name}"].files_at(commit)
        if refused is not None or files is None:
            return refused or _error(404, "EntryNotFound")
        return await self._file(request, files, commit, path)

    async def _cdn(self, request: Request, rest: str, commit: str, signature: str) -> Response:
        refused = self._note(request)
        if refused is not None:
            return refused
        if request.headers.get("authorization"):
            return Response("only one auth mechanism allowed", 400)
        self.uses[signature] += 1
        if self.expired_left or (self.signature_uses and self.uses[signature] > self.signature_uses):
            self.expired_left = max(0, self.expired_left - 1)
            return Response("Request has expired", 403)
        repo_id, path = next((r, rest[len(r) + 1 :]) for r in self.repos if rest.startswith(f"{r}/"))
        files = self.repos[repo_id].files_at(commit)
        return _error(404, "EntryNotFound") if not files else await self._file(request, files, commit, path)

    async def _file(self, request: Request, files: dict[str, bytes], commit: str, path: str) -> Response:
        large = path.endswith(LFS_SUFFIXES)
        headers = {"X-Repo-Commit": commit, **(self._xet_headers(files[path]) if large else {})}
        return await self.body(request, files[path], path, large=large, headers=headers)

    def _xet_headers(self, data: bytes) -> dict[str, str]:
        if not self.xet:
            return {}
        return {"X-Xet-Hash": self._sha256(data), "X-Xet-Refresh-Route": "/api/models/x/xet-read-token/y"}

    def _api(self, answer: Any, headers: dict[str, str]) -> Response:
        if self.rate_limits:
            headers["RateLimit"] = self.rate_limits.pop(0)
        return JSONResponse(answer, headers=headers)

    def _note(self, request: Request) -> Response | None:
        headers = request.headers
        self.seen.append(Seen(request.url.path, headers.get("range"), headers.get("authorization")))
        if self.busy and self.busy_paths in request.url.path:
            return Response(status_code=self.busy.pop(0), headers=self.busy_headers)
        return None

    def _renamed(self, request: Request, repo_id: str) -> Response | None:
        new = self.renamed.get(repo_id)
        if new is None:
            return None
        place = request.url.path.replace(f"/{repo_id}/", f"/{new}/", 1)
        return RedirectResponse(f"{place}?{request.url.query}", 307)

    def _hidden(self, request: Request, repo_id: str) -> Response | None:
        token = request.headers.get("authorization")
        if token is not None and token != f"Bearer {self.accepted_token}" and not self._is_gated(repo_id):
            return JSONResponse({"error": "bad"}, 401, {"X-Error-Message": "Invalid credentials"})
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and token is None):
            return _error(401 if token is None else 404, "RepoNotFound")
        if repo.disabled:
            return Response(
                status_code=403, headers={"X-Error-Message": "Access to this resource is disabled."}
            )
        return None

    def _is_gated(self, repo_id: str) -> bool:
        return repo_id in self.repos and self.repos[repo_id].gated

    def _gate(self, request: Request, repo_id: str) -> Response | None:
        """As the Hub does: the model card of a gated model is shown to everybody."""
        token = request.headers.get("authorization")
        if not self.repos[repo_id].gated or token == f"Bearer {self.accepted_token}":
            return None
        if request.url.path.endswith("/README.md"):
            return None
        return _error(401 if token is None else 403, "GatedRepo")

    def _entries(self, files: dict[str, bytes]) -> list[dict[str, Any]]:
        folders = sorted({path.rsplit("/", 1)[0] for path in files if "/" in path})
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "path": f} for f in folders]
        for path, data in files.items():
            size = self.tree_sizes.get(path, len(data))
            entry: dict[str, Any] = {"type": "file", "path": path, "size": size}
            if path.endswith(LFS_SUFFIXES):
                sha256 = self._sha256(data)
                entry |= {"oid": "1" * 40, "lfs": {"oid": sha256, "size": size, "pointerSize": 134}}
                if self.xet:
                    entry["xetHash"] = sha256
            else:
                entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entries.append(entry)
        return entries + self.extra_entries

    def _sha256(self, data: bytes) -> str:
        """Hashed once for each content, which may have gigabytes."""
        known = self.hashed.get(id(data))
        if known is None or known[0] is not data:
            known = self.hashed[id(data)] = (data, hashlib.sha256(data).hexdigest())
        return known[1]


def _error(status: int, code: str) -> Response:
    return JSONResponse({"error": code}, status, {"X-Error-Code": code})
