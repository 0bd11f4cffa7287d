"""A folder as the store: one file per object, each written beside its place and renamed when whole."""

import errno
import functools
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from msp_registry.store import (
    CHUNK_BYTES,
    BadKey,
    NoSuchObject,
    ObjectStat,
    StoreUnavailable,
    check_key,
)

_UNFINISHED = ".unfinished"
"""Folder below the root for objects on their way in: same file system, never listed."""

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)

P = ParamSpec("P")
T = TypeVar("T")


class FolderStore:
    """An ObjectStore below one folder. Symbolic links that lead out of it are refused."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Of this process alone, so that clearing up after an earlier one cannot hit what is on its way now.
        self._unfinished = root / _UNFINISHED / uuid.uuid4().hex
        self._limiter = CapacityLimiter(32)

    async def prepare(self) -> None:
        """Make the folder; remove what an interrupted `put` left."""
        await self._do(self._prepare)

    async def check(self) -> None:
        """Return if the folder can be written to."""
        await self._do(self._check)

    async def put(self, key: str, data: AsyncIterable[bytes], *, size_bytes: int | None = None) -> None:
        """Write to a temporary file, fsync, rename, fsync the folder."""
        await self._do(self._place, key)
        temporary = self._unfinished / uuid.uuid4().hex
        file = await self._do(self._create, temporary)
        try:
            pending = bytearray()
            async for chunk in data:
                pending += chunk
                if len(pending) >= CHUNK_BYTES:
                    await self._do(_write_all, file, bytes(pending))
                    pending.clear()
            await self._do(self._finish, file, bytes(pending), temporary, key)
        finally:
            # Opened in a thread and closed here: closing an unbuffered file does not wait.
            file.close()
            temporary.unlink(missing_ok=True)

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """Reads CHUNK_BYTES at a time."""
        file = await self._do(self._open, key, offset)
        try:
            left = length
            while left is None or left > 0:
                chunk = await self._do(file.read, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk
        finally:
            file.close()

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

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await to_thread.run_sync(functools.partial(work, *args, **kwargs), limiter=self._limiter)
        except OSError as error:
            raise StoreUnavailable(f"the folder store {self._root} failed: {error}") from error

    def _prepare(self) -> None:
        self._unfinished.mkdir(parents=True, exist_ok=True)
        for left in self._unfinished.parent.iterdir():
            if left != self._unfinished:
                shutil.rmtree(left, ignore_errors=True)

    def _check(self) -> None:
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise StoreUnavailable(f"the folder store {self._root} is missing or cannot be written to")

    def _place(self, key: str) -> Path:
        """The file for a key. Raises BadKey when a symbolic link on the way leads out of the root."""
        place = self._root / check_key(key)
        root = self._root.resolve()
        if key.split("/", 1)[0] == _UNFINISHED or not place.resolve().is_relative_to(root):
            raise BadKey(f"{key[:200]!r} is no key of this store: it leads out of it")
        return place

    def _create(self, temporary: Path) -> BinaryIO:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        return open(temporary, "xb", buffering=0)

    def _finish(self, file: BinaryIO, rest: bytes, temporary: Path, key: str) -> None:
        _write_all(file, rest)
        os.fsync(file.fileno())
        place = self._place(key)
        for attempt in range(3):
            self._make_folders(place.parent)
            try:
                os.replace(temporary, place)
                break
            except FileNotFoundError:
                # A delete next door may have removed the folder as empty between the two calls.
                if attempt == 2:
                    raise
        _fsync_folder(place.parent)

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for made in reversed(missing):
            made.mkdir(exist_ok=True)
            _fsync_folder(made.parent)

    def _open(self, key: str, offset: int) -> BinaryIO:
        try:
            file = open(self._place(key), "rb", buffering=0)  # noqa: SIM115 - closed by `get`
        except OSError as error:
            raise _absent(key, error) from None
        file.seek(offset)
        return file

    def _stat(self, key: str) -> ObjectStat:
        place = self._place(key)
        try:
            found = place.stat()
        except OSError as error:
            raise _absent(key, error) from None
        if not place.is_file():
            raise NoSuchObject(f"no object {key}")
        return ObjectStat(key, found.st_size, found.st_mtime)

    def _walk(self, prefix: str) -> Sequence[ObjectStat]:
        above, _, _ = prefix.rpartition("/")
        start = self._place(above) if above else self._root
        found = []
        for folder, folders, files in os.walk(start):
            if Path(folder) == self._root and _UNFINISHED in folders:
                folders.remove(_UNFINISHED)
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
        place = self._place(key)
        try:
            place.unlink()
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise
        for folder in place.parents:
            if folder == self._root:
                break
            try:
                folder.rmdir()
            except OSError:
                break  # not empty: the ordinary end


def _absent(key: str, error: OSError) -> Exception:
    return NoSuchObject(f"no object {key}") if error.errno in _ABSENT else error


def _write_all(file: BinaryIO, data: bytes) -> None:
    # Unbuffered, so that closing after a full disk cannot raise once more; a write may then be partial.
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
