"""Reading local files that others may meddle with: never through a link, never another file than before."""

import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from msp_registry.failures import JobFailure
from msp_registry.stores.store import CHUNK_BYTES


@dataclass(frozen=True)
class Identity:
    """By which a file is known again: where it is on the disk, its size, and when it was last written."""

    device: int
    inode: int
    size_bytes: int
    written_ns: int


@dataclass(frozen=True)
class LocalBytes:
    """One regular file, opened anew for each reading."""

    place: Path
    """Absolute and without links; a link found on the way is refused."""
    identity: Identity
    refusal: type[JobFailure]

    async def read(self, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Exactly these bytes. Raises `refusal` when the file cannot be read or is not the same any more."""
        handle = await to_thread.run_sync(self.open)
        try:
            while length:
                chunk = await to_thread.run_sync(os.pread, handle, min(length, CHUNK_BYTES), offset)
                if not chunk:
                    raise self.changed()
                offset += len(chunk)
                length -= len(chunk)
                yield chunk
        except OSError as error:
            raise self.refusal(f"{self.place} cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)

    def open(self) -> int:
        """A handle of the same file. Blocks."""
        handle = open_without_links(self.place, self.refusal)
        if identity_of(os.fstat(handle)) != self.identity:
            os.close(handle)
            raise self.changed()
        return handle

    def changed(self) -> JobFailure:
        """What to raise when the file has other bytes than before."""
        return self.refusal(f"{self.place} changed while it was imported; import it again")


def local_bytes(place: Path, refusal: type[JobFailure]) -> LocalBytes:
    """The file as it is now. Blocks."""
    handle = open_without_links(place, refusal)
    try:
        found = os.fstat(handle)
    finally:
        os.close(handle)
    if not stat.S_ISREG(found.st_mode):
        raise refusal(f"{place} is no regular file")
    return LocalBytes(place, identity_of(found), refusal)


def identity_of(found: os.stat_result) -> Identity:
    """Of an opened file."""
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def open_without_links(place: Path, refusal: type[JobFailure]) -> int:
    """Open a file step by step, so that no folder on the way can be swapped for a link. Blocks."""
    folder = os.open(place.anchor, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in place.parts[1:-1]:
            below = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        # Not blocking, since what was a file may be a pipe by now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(place.name, flags, dir_fd=folder)
    except OSError as error:
        raise refusal(f"{place} cannot be read: {error.strerror}") from error
    finally:
        os.close(folder)
