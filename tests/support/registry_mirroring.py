"""A mirror of a fake hub into a store in memory, with tiny parts and a clock that nobody waits for."""

import hashlib

import httpx
from starlette.types import Receive, Scope, Send

from msp_common.contracts.jobs import DownloadRequest
from msp_registry.catalogue import Catalogue
from msp_registry.hub.client import HubClient
from msp_registry.hub.mirror import Mirror
from msp_registry.hub.selection import RemoteFile
from msp_registry.transfers.transfer import Transfer
from support.fake_hub import COMMIT, LFS_SUFFIXES, FakeHub
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress

PART = 20_000
NOW = 1_800_000_000.0


class Switchboard:
    """One server for many fake hubs, one after the other: starting a server takes longer than a test."""

    def __init__(self) -> None:
        self.hub = FakeHub()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        await self.hub.app(scope, receive, send)


class ToldClock:
    """A clock that only sleeping moves; it remembers the sleeps."""

    def __init__(self) -> None:
        self.now = NOW
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Mirroring:
    """Everything between the hub and the store is real."""

    def __init__(self, hub: FakeHub, endpoint: str, client: httpx.AsyncClient) -> None:
        self.hub = hub
        self.endpoint = endpoint
        self.client = client
        self.store = MemoryStore()
        self.catalogue = Catalogue(self.store)
        self.clock = ToldClock()
        self.progress = ToldProgress()
        self.quota_bytes: int | None = None
        self.token: str | None = None
        self.stall_timeout_s = 5.0

    def use(self, store: MemoryStore) -> None:
        """Another store than the one it began with."""
        self.store, self.catalogue = store, Catalogue(store)

    def hub_client(self) -> HubClient:
        """A new one, which remembers nothing."""
        self.client.event_hooks["request"].clear()
        return HubClient(
            self.endpoint,
            self.token,
            self.client,
            self.clock.sleep,
            clock=self.clock,
            stall_timeout_s=self.stall_timeout_s,
        )

    def mirror(self) -> Mirror:
        """A new one, as after a restart; the store stays."""
        transfer = Transfer(
            self.store, window_bytes=4 * PART, parallel_parts=2, part_bytes_of=lambda size: PART
        )
        return Mirror(
            self.hub_client(),
            transfer,
            self.store,
            self.catalogue,
            clock=self.clock,
            quota_bytes=self.quota_bytes,
        )

    async def bring(self, repo_id: str = "org/tiny", **request: object) -> ToldProgress:
        """Run one download as a job would."""
        self.progress = ToldProgress()
        await self.mirror().bring(repo_id, DownloadRequest.model_validate(request), self.progress)
        return self.progress

    def stored(self, repo_id: str = "org/tiny", commit: str = COMMIT) -> dict[str, bytes]:
        """The snapshot's files in the store, whether published or not."""
        prefix = f"{repo_id}/{commit}/"
        return {
            key.removeprefix(prefix): data
            for key, data in self.store.objects.items()
            if key.startswith(prefix) and "/.registry/" not in key
        }


def remote(path: str, data: bytes) -> RemoteFile:
    """A file as the fake hub lists it."""
    if path.endswith(LFS_SUFFIXES):
        return RemoteFile(path, len(data), git_sha1=None, sha256=hashlib.sha256(data).hexdigest())
    blob = b"blob %d\0" % len(data) + data
    return RemoteFile(path, len(data), git_sha1=hashlib.sha1(blob).hexdigest(), sha256=None)
