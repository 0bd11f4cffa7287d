"""A folder as the store: one file per object, each written beside its place and renamed when whole."""

import fcntl
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, Callable, MutableSequence, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from msp_registry.stores.folder_places import (
    ABSENT,
    UNFINISHED,
    FolderPlaces,
    absent,
    make_folders,
    remove_empty_folders,
    write_at,
)
from msp_registry.stores.folder_uploads import FolderUploads
from msp_registry.stores.store import (
    CHUNK_BYTES,
    NoSuchObject,
    ObjectStat,
    Part,
    PendingUpload,
    StoreUnavailable,
)
from msp_registry.stores.store_threads import StoreThreads

_NEVER_LISTED = (UNFINISHED, "lost+found")
"""The second is what mkfs leaves at the top of a file system, for root alone."""

P = ParamSpec("P")
T = TypeVar("T")


class FolderStore:
    """An ObjectStore below one folder. Symbolic links that lead out of it are refused."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._places = FolderPlaces(root)
        self._uploads = FolderUploads(self._places)
        self._threads = StoreThreads(32)

    async def prepare(self) -> None:
        """Make the folder; remove what puts of ended processes left. Uploads stay."""
        await self._do(self._prepare)

    async def check(self) -> None:
        """Return if the folder can be written to."""
        await self._do(self._check)

    async def free_bytes(self) -> int | None:
        """What the file system has left for this user."""
        return await self._do(self._free_bytes)

    async def put(self, key: str, data: bytes) -> None:
        """Write to a temporary file, fsync, rename, fsync the folder."""
        await self._do(self._put, key, data)

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """Reads CHUNK_BYTES at a time."""
        # Filled in the thread: a cancellation while it opens must not lose the handle.
        handles = list[int]()
        try:
            await self._do(self._open, key, handles)
            left = length
            while left is None or left > 0:
                wanted = CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)
                chunk = await self._do(os.pread, handles[0], wanted, offset)
                if not chunk:
                    return
                offset += len(chunk)
                left = None if left is None else left - len(chunk)
                yield chunk
        finally:
            for handle in handles:
                os.close(handle)

    async def stat(self, key: str) -> ObjectStat:
        """Raises NoSuchObject, also for a folder."""
        return await self._do(self._stat, key)

    async def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        """Walks only the folder that the prefix names."""
        for found in await self._do(self._walk, prefix):
            yield found

    async def delete(self, key: str) -> None:
        """Removes the file, and the folders that it leaves empty."""
        await self._do(self._delete, key)

    async def presigned_url(self, key: str, expires_s: int) -> str | None:
        """A folder has none."""
        return None

    async def begin_upload(self, key: str, *, size_bytes: int, part_bytes: int) -> str:
        """Takes no room yet."""
        return await self._do(self._uploads.begin, key, size_bytes, part_bytes)

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        """Returns when the bytes are on the disk."""
        return await self._do(self._uploads.put_part, key, upload_id, number, data)

    async def parts(self, key: str, upload_id: str) -> Sequence[Part]:
        """Those that are on the disk for certain."""
        return await self._do(self._uploads.parts, key, upload_id)

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """A rename: no bytes are copied. Needs all the parts, as they were last put."""
        await self._do(self._uploads.complete, key, upload_id, parts)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Gives the room back at once."""
        await self._do(self._uploads.abort, key, upload_id)

    async def uploads(self, prefix: str) -> AsyncGenerator[PendingUpload, None]:
        """All of them."""
        for found in await self._do(self._uploads.pending, prefix):
            yield found

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._threads.run(work, *args, **kwargs)
        except OSError as error:
            raise self._places.translated(error) from error

    def _prepare(self) -> None:
        make_folders(self._places.puts)
        make_folders(self._places.uploads)
        for left in self._places.puts.iterdir():
            _remove_unless_locked(left)
        for other in self._places.puts.parent.iterdir():
            # What earlier versions left: a folder for each process.
            if other not in (self._places.puts, self._places.uploads):
                shutil.rmtree(other, ignore_errors=True)
        self._uploads.clear_remains()

    def _check(self) -> None:
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise StoreUnavailable(f"the folder store {self._root} is missing or cannot be written to")

    def _free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def _put(self, key: str, data: bytes) -> None:
        self._places.of(key)
        make_folders(self._places.puts)
        temporary = self._places.puts / uuid.uuid4().hex
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            # Tells another process's `prepare` that this one lives; the system drops it with the process.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_at(handle, data, 0)
            os.fsync(handle)
            self._places.publish(temporary, key)
        finally:
            os.close(handle)
            temporary.unlink(missing_ok=True)

    def _open(self, key: str, handles: MutableSequence[int]) -> None:
        place = self._places.of(key)
        try:
            handle = os.open(place, os.O_RDONLY)
        except OSError as error:
            raise absent(key, error) from None
        handles.append(handle)
        if place.is_dir():
            raise NoSuchObject(f"no object {key}")

    def _stat(self, key: str) -> ObjectStat:
        place = self._places.of(key)
        try:
            found = place.stat()
        except OSError as error:
            raise absent(key, error) from None
        if not place.is_file():
            raise NoSuchObject(f"no object {key}")
        return ObjectStat(key, found.st_size, found.st_mtime)

    def _walk(self, prefix: str) -> Sequence[ObjectStat]:
        above, _, _ = prefix.rpartition("/")
        start = self._places.of(above) if above else self._root
        found = []
        for folder, folders, files in os.walk(start, onerror=_unless_absent):
            if Path(folder) == self._root:
                folders[:] = [name for name in folders if name not in _NEVER_LISTED]
            for name in files:
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    try:
                        stat = path.stat()
                    except FileNotFoundError:
                        continue  # deleted since the folder was read
                    found.append(ObjectStat(key, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda o: o.key)

    def _delete(self, key: str) -> None:
        place = self._places.of(key)
        try:
            place.unlink()
        except OSError as error:
            if error.errno in ABSENT:
                return
            raise
        remove_empty_folders(place.parents, self._root)


def _unless_absent(error: OSError) -> None:
    # A folder that cannot be read must not pass for an empty one: its objects would seem to be gone.
    if error.errno not in ABSENT:
        raise error


def _remove_unless_locked(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(handle)
