"""Where a folder store keeps things, and how a finished file comes to its place for good."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from msp_registry.stores.store import BadKey, NoSuchObject, StoreError, StoreFull, StoreUnavailable, check_key

UNFINISHED = ".unfinished"
"""Folder below the root for what is on its way in: same file system, never listed."""

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)


class FolderPlaces:
    """The files of a folder store. Everything here blocks and raises OSError, see `translated`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.puts = root / UNFINISHED / "puts"
        self.uploads = root / UNFINISHED / "uploads"

    def of(self, key: str) -> Path:
        """The file for a key. Raises BadKey when a symbolic link on the way leads out of the root."""
        place = self.root / check_key(key)
        if key.split("/", 1)[0] == UNFINISHED or not place.resolve().is_relative_to(self.root.resolve()):
            raise BadKey(f"{key[:200]!r} is no key of this store: it leads out of it")
        return place

    def publish(self, whole: Path, key: str) -> None:
        """Rename a file, whose bytes are on the disk, to its key; it is there also after a power cut."""
        place = self.of(key)
        for attempt in range(3):
            make_folders(place.parent)
            try:
                os.replace(whole, place)
                break
            except FileNotFoundError:
                # A delete next door may have removed the folder as empty between the two calls.
                if attempt == 2 or not whole.exists():
                    raise
        sync_folder(place.parent)

    def translated(self, error: OSError) -> StoreError:
        """What a failed call of the system means to users of the store."""
        told = f"the folder store {self.root} failed: {error}"
        if error.errno in _FULL:
            return StoreFull(told)
        if error.errno in _IN_THE_WAY:
            # No other try will help: one of the two must go.
            return StoreError(f"{told}; a key cannot be both an object and the folder of others")
        return StoreUnavailable(told)


def absent(key: str, error: OSError) -> Exception:
    """NoSuchObject if that is what the error says, else the error itself."""
    return NoSuchObject(f"no object {key}") if error.errno in ABSENT else error


def make_folders(folder: Path) -> None:
    """The folder and those above it, to last."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        sync_folder(made.parent)


def remove_empty_folders(folders: Iterable[Path], root: Path) -> None:
    """From the innermost outwards, up to the root or the first that holds something."""
    for folder in folders:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:
            return  # not empty: the ordinary end


def sync_folder(folder: Path) -> None:
    """Wait until the names in the folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_at(handle: int, data: bytes, offset: int) -> None:
    """All of the data; the system may take it in pieces."""
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
