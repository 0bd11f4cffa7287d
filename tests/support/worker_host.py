"""A machine with a cache for models, and a registry that it can reach."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msp_model_service.weights.auto_download import Bringer
from msp_model_service.weights.cache import VerifyMode
from msp_model_service.weights.cache_room import CacheRoom
from msp_model_service.weights.checking import Checker
from msp_model_service.weights.fetching import RANGE_BYTES
from msp_model_service.weights.model_source import RegistrySource
from msp_model_service.weights.weights import CachedWeights, Snapshot
from support.servers import run_server
from support.worker_registries import COMMIT, FakeModelRegistry

FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": os.urandom(300_000),
    "1_Pooling/config.json": b"{}",
    "empty.txt": b"",
}


@dataclass
class Host:
    """Each `fetch` is a worker's start, with nothing remembered from the one before."""

    cache: Path
    url: str
    registry: FakeModelRegistry
    range_bytes: int = RANGE_BYTES
    limit_bytes: int | None = None
    free_bytes: int = 10**12
    now: float = 1000.0
    """The clock by which addresses end."""
    bring: Bringer | None = None
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def fetch(self, verify: VerifyMode = "full", revision: str = "main", url: str | None = None) -> Snapshot:
        source = RegistrySource(url or self.url, lambda: self.now)
        try:
            return self.weights(source, verify).fetch(
                self.registry.model_id, revision, lambda *news: self.progress.append(news), self.stop
            )
        finally:
            source.close()

    def weights(self, source: RegistrySource, verify: VerifyMode = "full") -> CachedWeights:
        room = CacheRoom(self.cache, self.limit_bytes, lambda path: self.free_bytes)
        return CachedWeights(source, room, Checker(verify), self.bring, self.range_bytes)

    @property
    def folder(self) -> Path:
        return self.cache / "org" / "model" / COMMIT

    def held(self) -> dict[str, bytes]:
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for p in self.folder.rglob("*")
            if p.is_file() and p.name != ".complete"
        }


@contextmanager
def running_host(cache: Path, files: dict[str, bytes] | None = None) -> Iterator[Host]:
    registry = FakeModelRegistry(FILES if files is None else files)
    with run_server(registry.app) as url:
        yield Host(cache, url, registry)
