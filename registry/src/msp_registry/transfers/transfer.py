"""From a source into the store: several files at once, each verified, within a fixed amount of memory.

Whatever ends a transfer, an object under a file's key is whole and has the announced hashes; parts of a large
file stay in the store, with a record of where to go on.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing, nullcontext

from msp_common.contracts.models import ManifestFile
from msp_registry.failures import WrongBytes
from msp_registry.hub.selection import RemoteFile
from msp_registry.jobs.progress import Progress
from msp_registry.stores.store import NoSuchObject, NoSuchUpload, ObjectStore, part_bytes_of
from msp_registry.transfers.file_source import RangesIgnored, ReadFile, read_piece
from msp_registry.transfers.hashing import Digest
from msp_registry.transfers.part_upload import PartUpload, Target
from msp_registry.transfers.task_groups import together
from msp_registry.transfers.told import Told
from msp_registry.transfers.upload_record import forget_upload
from msp_registry.transfers.window import ByteWindow

__all__ = ["ReadFile", "Transfer"]

log = logging.getLogger(__name__)


class Transfer:
    """Brings files into one store. One object per process, so that its bounds hold over all jobs."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        window_bytes: int = 256 << 20,
        parallel_files: int = 4,
        parallel_parts: int = 8,
        part_bytes_of: Callable[[int], int] = part_bytes_of,
    ) -> None:
        """`parallel_files` bounds one job; the window and `parallel_parts` all of them together."""
        self._store = store
        self._parallel_files = parallel_files
        self._part_bytes_of = part_bytes_of
        self._window = ByteWindow(window_bytes)
        self._reads = asyncio.Semaphore(parallel_parts)
        self._uploads = PartUpload(store, self._window, self._reads, part_bytes_of)

    async def store_all(
        self,
        repo_id: str,
        commit: str,
        files: Sequence[RemoteFile],
        read: ReadFile,
        progress: Progress,
        *,
        sequential: bool = False,
        replace: bool = False,
        attempts: int = 1,
    ) -> list[ManifestFile]:
        """Bring what is not there yet; the entries are in the order of `files`.

        A file that an earlier run has stored whole is hashed, and `read` is not called for it; of a large one
        that was broken off, only the missing parts are read. `sequential`: one file after another, each by
        one call of `read` that is consumed from front to back. `replace`: what is stored is known to be bad;
        it stays until the new file is whole. `attempts`: how often a file with wrong bytes is fetched from
        zero before that is an error. Raises JobFailure (WrongBytes, and what `read` raises) and StoreError.
        """
        entries: dict[str, ManifestFile] = {}
        remaining = iter(files)

        async def one_after_another() -> None:
            for file in remaining:
                target = Target(repo_id, commit, file)
                told = Told(progress, file.path)
                digest = None if replace else await self._already_stored(target, told)
                if digest is None:
                    digest = await self._attempted(target, read, told, sequential, attempts)
                entries[file.path] = ManifestFile(
                    path=file.path,
                    size_bytes=digest.size_bytes,
                    sha256=digest.sha256,
                    git_sha1=digest.git_sha1,
                    lfs=file.lfs,
                )
                progress.file_done(file.path)

        async with together() as group:
            for _ in range(1 if sequential else self._parallel_files):
                group.create_task(one_after_another())
        return [entries[file.path] for file in files]

    async def _already_stored(self, target: Target, told: Told) -> Digest | None:
        """The hashes of an object that an earlier run has left; one with other bytes is removed."""
        size = target.file.size_bytes
        try:
            if (await self._store.stat(target.key)).size_bytes == size and target.hash_known:
                hasher = target.hasher()
                async with aclosing(self._store.get(target.key)) as chunks:
                    async for chunk in chunks:
                        await hasher.update(chunk)
                        told.moved(len(chunk))
                target.check(hasher.digest())
                if size > self._part_bytes_of(size):
                    await forget_upload(self._store, target.key, target.record_key)
                return hasher.digest()
        except NoSuchObject:
            return None
        except WrongBytes as error:
            log.warning("an earlier run has left wrong bytes, they are fetched again: %s", error)
            told.take_back()
        await self._store.delete(target.key)
        return None

    async def _attempted(
        self, target: Target, read: ReadFile, told: Told, sequential: bool, attempts: int
    ) -> Digest:
        for _ in range(attempts - 1):
            try:
                return await self._brought(target, read, told, sequential)
            except WrongBytes as error:
                log.warning("fetching it once more from its first byte: %s", error)
                told.take_back()
        return await self._brought(target, read, told, sequential)

    async def _brought(self, target: Target, read: ReadFile, told: Told, sequential: bool) -> Digest:
        size = target.file.size_bytes
        if size <= self._part_bytes_of(size):
            return await self._small(target, read, told, sequential)
        if not sequential:
            try:
                return await self._uploads.in_parts(target, read, told)
            except NoSuchUpload:
                log.warning("the store has lost the upload of %s; it begins anew", target.key)
                told.take_back()
                return await self._uploads.in_parts(target, read, told)
            except RangesIgnored:
                log.warning("%s is given only as a whole; it is read from front to back", target.key)
                told.take_back()
        return await self._uploads.front_to_back(target, read, told)

    async def _small(self, target: Target, read: ReadFile, told: Told, sequential: bool) -> Digest:
        """Read whole, then stored at once, so that wrong bytes never get as far as the store."""
        size = target.file.size_bytes
        async with self._window.share(size):
            # One stream of many files is no ranged read, and must not keep others from theirs for hours.
            async with nullcontext() if sequential else self._reads:
                data = await read_piece(read, target.file, 0, size, told.moved)
            hasher = target.hasher()
            await hasher.update(data)
            target.check(hasher.digest())
            await self._store.put(target.key, data)
        return hasher.digest()
