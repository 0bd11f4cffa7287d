"""A transfer between a scripted source and a store that takes notes."""

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

from msp_common.contracts.models import ManifestFile
from msp_registry.hub.selection import RemoteFile
from msp_registry.layout import file_key, upload_key
from msp_registry.stores.store import Part
from msp_registry.transfers.transfer import Transfer
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress

REPO, COMMIT = "org/tiny", "c0ffee" * 6 + "abcd"
PART = 1000


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def remote(path: str, data: bytes, *, lfs: bool = True) -> RemoteFile:
    if lfs:
        return RemoteFile(path, len(data), git_sha1=None, sha256=hashlib.sha256(data).hexdigest())
    header = b"blob %d\0" % len(data)
    return RemoteFile(path, len(data), git_sha1=hashlib.sha1(header + data).hexdigest(), sha256=None)


class Source:
    """Files to read, with a memory; `before` runs ahead of each piece, `alter` changes its bytes."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.asked: list[tuple[str, int, int]] = []
        self.at_once = self.most_at_once = 0
        self.before: Callable[[str, int], Awaitable[None]] | None = None
        self.alter: Callable[[str, int, bytes], bytes] = lambda path, offset, data: data

    def remote(self) -> list[RemoteFile]:
        return [remote(path, data) for path, data in self.files.items()]

    async def read(self, file: RemoteFile, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        self.asked.append((file.path, offset, length))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.before is not None:
                await self.before(file.path, offset)
            data = self.alter(file.path, offset, self.files[file.path][offset : offset + length])
            for start in range(0, len(data), 300):
                await asyncio.sleep(0)
                yield data[start : start + 300]
        finally:
            self.at_once -= 1

    def offsets(self, path: str) -> list[int]:
        return sorted(offset for asked, offset, _ in self.asked if asked == path)


class NotingStore(MemoryStore):
    """Tells when a part is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.part_stored = asyncio.Semaphore(0)

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        part = await super().put_part(key, upload_id, number, data)
        self.part_stored.release()
        return part


class Transferring:
    """A transfer of a source into a store in memory, with tiny parts."""

    def __init__(self, source: Source, store: NotingStore | None = None, **limits: int) -> None:
        self.source = source
        self.store = store or NotingStore()
        self.progress = ToldProgress()
        limits.setdefault("window_bytes", 8 * PART)
        self.transfer = Transfer(self.store, part_bytes_of=lambda size: PART, **limits)

    async def run(
        self, *, sequential: bool = False, replace: bool = False, attempts: int = 1
    ) -> list[ManifestFile]:
        files = self.source.remote()
        self.progress = ToldProgress()
        self.progress.expect([(file.path, file.size_bytes) for file in files])
        return await self.transfer.store_all(
            REPO,
            COMMIT,
            files,
            self.source.read,
            self.progress,
            sequential=sequential,
            replace=replace,
            attempts=attempts,
        )

    def stored(self, path: str) -> bytes | None:
        return self.store.objects.get(file_key(REPO, COMMIT, path))

    def assert_whole(self) -> None:
        for path, data in self.source.files.items():
            assert self.stored(path) == data
        assert self.store.pending == {}
        assert [key for key in self.store.objects if "/uploads/" in key] == []
        assert self.progress.bytes_done == sum(map(len, self.source.files.values()))
        assert sorted(self.progress.done) == sorted(self.source.files)

    def assert_nothing_of(self, path: str) -> None:
        assert self.stored(path) is None
        assert self.store.pending == {}
        assert upload_key(REPO, COMMIT, path) not in self.store.objects
