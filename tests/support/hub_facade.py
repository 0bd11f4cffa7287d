"""The registry's hub protocol over a store of the test's making, and a log of what clients asked."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from msp_common.contracts.models import HubRecord, Manifest, ManifestFile
from msp_common.http_app import new_app
from msp_registry.catalogue import Catalogue
from msp_registry.layout import file_key
from msp_registry.metrics import Metrics
from msp_registry.routes.hub import router as hub
from msp_registry.routes.raw_paths import OneSegmentIds
from msp_registry.upkeep.quarantine import Quarantine
from support.registry_memory_store import MemoryStore

COMMIT = "0123456789abcdef" * 2 + "01234567"
OTHER_COMMIT = "fedcba9876543210" * 2 + "fedcba98"
HUB = HubRecord(
    pipeline_tag="text-generation",
    library_name="transformers",
    tags=["safetensors", "en"],
    last_modified="2026-03-04T05:06:07.000Z",
)


@dataclass(frozen=True)
class FacadeParts:
    """What the hub's routes need of the application's parts."""

    store: MemoryStore
    catalogue: Catalogue
    quarantine: Quarantine
    metrics: Metrics
    mirror: None = None
    hub_endpoint: None = None


@dataclass
class RequestLog:
    """Every request in order, as `GET /path?query`; `ranges` has their Range headers."""

    requests: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)

    def clear(self) -> None:
        """Forget them."""
        self.requests.clear()
        self.ranges.clear()

    def of(self, method: str) -> list[str]:
        """Paths that were asked with a method."""
        return [path for asked, _, path in (line.partition(" ") for line in self.requests) if asked == method]


class Recorder:
    """Middleware that writes the log."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self.app = app
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode()
            path = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
            headers = {name.lower(): value.decode() for name, value in scope["headers"]}
            self.log.requests.append(f"{scope['method']} {path}")
            self.log.ranges.append(headers.get(b"range"))
        await self.app(scope, receive, send)


@dataclass(frozen=True)
class Facade:
    """The application, what lies behind it, and what it was asked."""

    app: FastAPI
    parts: FacadeParts
    log: RequestLog


def facade() -> Facade:
    """An empty registry that answers the hub's protocol."""
    store, metrics = MemoryStore(), Metrics()
    parts = FacadeParts(store, Catalogue(store), Quarantine(store), metrics)
    log = RequestLog()
    app = new_app("Hub", "The hub's protocol.", metrics=metrics.registry)
    app.state.parts = parts
    app.add_middleware(OneSegmentIds)
    app.add_middleware(Recorder, log=log)
    app.include_router(hub.router)
    return Facade(app, parts, log)


async def publish(
    parts: FacadeParts,
    repo_id: str,
    contents: dict[str, bytes],
    *,
    commit: str = COMMIT,
    ref: str | None = "main",
    lfs: Iterable[str] = (),
    **said: Any,
) -> Manifest:
    """Put a snapshot into the store; `said` is more of the manifest."""
    listed = [described(path, data, lfs=path in set(lfs)) for path, data in contents.items()]
    for path, data in contents.items():
        await parts.store.put(file_key(repo_id, commit, path), data)
    manifest = Manifest.model_validate(
        {
            "repo_id": repo_id,
            "commit": commit,
            "revision": ref or commit,
            "source": "folder",
            "files": listed,
            "total_bytes": sum(file.size_bytes for file in listed),
            "format": "safetensors",
            "mirrored_at": 1_700_000_000.0,
            "tool_version": "1",
            **said,
        }
    )
    await parts.catalogue.publish(manifest, ref)
    return manifest


def described(path: str, data: bytes, *, lfs: bool = False) -> ManifestFile:
    """What a manifest says of a file."""
    blob = b"blob %d\0" % len(data) + data
    return ManifestFile(
        path=path,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        git_sha1=hashlib.sha1(blob).hexdigest(),
        lfs=lfs,
    )


def folder_files(folder: Path) -> dict[str, bytes]:
    """Path and content of each file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
