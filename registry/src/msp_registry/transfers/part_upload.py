"""One large file from its source into the store: parts side by side, hashed in order, resumed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from msp_registry.failures import WrongBytes
from msp_registry.hub.selection import RemoteFile
from msp_registry.layout import file_key, upload_key
from msp_registry.stores.store import NoSuchObject, NoSuchUpload, ObjectStore, Part
from msp_registry.transfers.file_source import FrontToBack, ReadFile, read_piece
from msp_registry.transfers.hashing import Digest, FileHasher, check_digest, digest_of
from msp_registry.transfers.ordered_hash import OrderedHash
from msp_registry.transfers.piece_memory import PieceMemory
from msp_registry.transfers.task_groups import together
from msp_registry.transfers.told import Told
from msp_registry.transfers.upload_record import UploadRecord, forget_upload, read_record, write_record
from msp_registry.transfers.window import ByteWindow

Fetch = Callable[[int, int], Awaitable[bytes]]
"""Offset and length → this piece of the file."""

_AHEAD = 4
"""Parts of one stream in memory at once. More would only wait for each other, in memory grown cold."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A file, and the snapshot that it is to become part of."""

    repo_id: str
    commit: str
    file: RemoteFile

    @property
    def key(self) -> str:
        """Where the file is to be."""
        return file_key(self.repo_id, self.commit, self.file.path)

    @property
    def record_key(self) -> str:
        """Where it is kept how far it has come."""
        return upload_key(self.repo_id, self.commit, self.file.path)

    @property
    def hash_known(self) -> bool:
        """Whether bytes can be told to be the file's without fetching them again."""
        return self.file.sha256 is not None or self.file.git_sha1 is not None

    def hasher(self) -> FileHasher:
        """What hashes the file as far as it must be."""
        file = self.file
        suffices = file.sha256_suffices and file.sha256 is not None
        return FileHasher(file.size_bytes, git_sha1=file.git_sha1 if suffices else None)

    def check(self, found: Digest) -> None:
        """Raises WrongBytes unless it is what was announced."""
        check_digest(
            self.key,
            found,
            size_bytes=self.file.size_bytes,
            git_sha1=self.file.git_sha1,
            sha256=self.file.sha256,
        )


@dataclass
class _Upload:
    record: UploadRecord
    parts: dict[int, Part] = field(default_factory=dict)
    """What the store holds."""


class PartUpload:
    """Brings large files. What it holds of all of them together stays within the window.

    A part's bytes count from before they are read until they are stored and hashed. Since a file's parts are
    hashed in order, a part may keep its share until those before it have come. That cannot lock up: parts of
    a file get their shares in order, so the first unhashed one always has its own, and reading, storing and
    hashing it waits for no other share.
    """

    def __init__(
        self,
        store: ObjectStore,
        window: ByteWindow,
        reads: asyncio.Semaphore,
        part_bytes_of: Callable[[int], int],
    ) -> None:
        """`reads` bounds the ranged reads at once; both it and the window are shared with others."""
        self._store = store
        self._window = window
        self._reads = reads
        self._part_bytes_of = part_bytes_of
        self._memory = PieceMemory(_AHEAD)

    async def in_parts(self, target: Target, read: ReadFile, told: Told) -> Digest:
        """By ranged reads, of the missing parts only. Raises RangesIgnored, WrongBytes and StoreError."""
        upload = await self._resumed(target) or await self._begun(target)
        told.resumed(sum(part.size_bytes for part in upload.parts.values()))
        # Hashes cannot be saved: only a run that sees every byte can hash them on their way.
        hashed = None if upload.parts else OrderedHash(target.hasher())

        async def fetch(offset: int, length: int) -> bytes:
            async with self._reads:
                return await read_piece(read, target.file, offset, length, told.moved)

        await self._store_parts(target, upload, fetch, hashed)
        return await self._finished(target, upload, hashed)

    async def front_to_back(self, target: Target, read: ReadFile, told: Told) -> Digest:
        """By one read of the whole file, always from its beginning. Raises WrongBytes and StoreError."""
        await forget_upload(self._store, target.key, target.record_key)
        upload = await self._begun(target)
        hashed = OrderedHash(target.hasher())
        async with aclosing(read(target.file, 0, target.file.size_bytes)) as stream:
            whole = FrontToBack(target.file, stream, told.moved, self._memory)
            await self._store_parts(target, upload, whole.take, hashed, stored=whole.give_back, in_turn=True)
            await whole.end()
        return await self._finished(target, upload, hashed)

    async def _resumed(self, target: Target) -> _Upload | None:
        """What an earlier run has left, if it fits; otherwise it is cleared away."""
        record = await read_record(self._store, target.record_key)
        if record is None:
            return None
        size = target.file.size_bytes
        fits = (record.path, record.size_bytes) == (target.file.path, size)
        if fits and record.part_bytes == self._part_bytes_of(size) and target.hash_known:
            try:
                return _Upload(record, record.whole(await self._store.parts(target.key, record.upload_id)))
            except NoSuchUpload:
                log.warning("the store no longer has the parts of %s; they are fetched again", target.key)
        await forget_upload(self._store, target.key, target.record_key)
        return None

    async def _begun(self, target: Target) -> _Upload:
        size = target.file.size_bytes
        part_bytes = self._part_bytes_of(size)
        upload_id = await self._store.begin_upload(target.key, size_bytes=size, part_bytes=part_bytes)
        record = UploadRecord(
            path=target.file.path, size_bytes=size, part_bytes=part_bytes, upload_id=upload_id
        )
        await write_record(self._store, target.record_key, record)
        return _Upload(record)

    async def _store_parts(
        self,
        target: Target,
        upload: _Upload,
        fetch: Fetch,
        hashed: OrderedHash | None,
        *,
        stored: Callable[[bytes], None] | None = None,
        in_turn: bool = False,
    ) -> None:
        """`in_turn`: `fetch` is called for one part at a time, in their order.

        `stored` gets what `fetch` gave once it is stored and hashed.
        """
        record = upload.record
        ahead = asyncio.Semaphore(_AHEAD if in_turn else record.count)

        async def bring(number: int, next_may_follow: asyncio.Event) -> None:
            offset, length = record.extent(number)
            async with ahead, self._window.share(length):
                if not in_turn:
                    next_may_follow.set()
                data = await fetch(offset, length)
                next_may_follow.set()
                async with together() as both:
                    both.create_task(keep(number, data))
                    if hashed is not None:
                        both.create_task(hashed.add(number, data))
                if stored is not None:
                    stored(data)

        async def keep(number: int, data: bytes) -> None:
            upload.parts[number] = await self._store.put_part(target.key, record.upload_id, number, data)

        async with together() as group:
            for number in range(1, record.count + 1):
                if number in upload.parts:
                    continue
                next_may_follow = asyncio.Event()
                group.create_task(bring(number, next_may_follow))
                # Only one part of a file waits for its share, so that files take turns. A part of a stream
                # takes none before the one ahead of it is read: a slow sender would keep all of them.
                await next_may_follow.wait()

    async def _finished(self, target: Target, upload: _Upload, hashed: OrderedHash | None) -> Digest:
        """Completes the upload; wrong bytes leave nothing under the key."""
        digest = hashed.digest() if hashed is not None else None
        if digest is not None:
            try:
                target.check(digest)
            except WrongBytes:
                await forget_upload(self._store, target.key, target.record_key)
                raise
        if not await self._completed(target, upload) or digest is None:
            digest = await self._read_back(target)
        await self._store.delete(target.record_key)
        return digest

    async def _completed(self, target: Target, upload: _Upload) -> bool:
        """Whether the object is surely made of the upload's parts. Raises NoSuchUpload if there is none."""
        parts = [upload.parts[number] for number in sorted(upload.parts)]
        try:
            await self._store.complete_upload(target.key, upload.record.upload_id, parts)
        except NoSuchUpload:
            # Completed already, if an earlier try succeeded and only its answer was lost.
            try:
                found = await self._store.stat(target.key)
            except NoSuchObject:
                found = None
            if found is None or found.size_bytes != target.file.size_bytes:
                raise
            return False
        return True

    async def _read_back(self, target: Target) -> Digest:
        async with aclosing(self._store.get(target.key)) as chunks:
            digest = await digest_of(chunks, target.hasher())
        try:
            target.check(digest)
        except WrongBytes:
            await self._store.delete(target.key)
            await self._store.delete(target.record_key)
            raise
        return digest
