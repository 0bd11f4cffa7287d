"""Both hashes of a file at once: sha256, which we and the Hub's large files go by, and git's blob sha1."""

import hashlib
from collections.abc import AsyncIterable
from dataclasses import dataclass

from anyio import to_thread

from msp_registry.failures import WrongBytes

# hashlib lets go of the interpreter from 2 KiB on; below this a thread costs more than it frees.
_IN_THREAD_FROM_BYTES = 1 << 16


@dataclass(frozen=True)
class Digest:
    """What a file turned out to be."""

    size_bytes: int
    sha256: str
    git_sha1: str


class FileHasher:
    """Hashes a file of known length as it passes by. Git's hash begins with the length, so it comes first."""

    def __init__(self, size_bytes: int, *, git_sha1: str | None = None) -> None:
        """With a `git_sha1` only the sha256 is hashed, and git's hash is taken to be this one."""
        self._sha256 = hashlib.sha256()
        header = b"blob %d\0" % size_bytes
        self._sha1 = hashlib.sha1(header, usedforsecurity=False) if git_sha1 is None else None
        self._git_sha1 = git_sha1
        self.seen_bytes = 0

    async def update(self, chunk: bytes) -> None:
        """Take the next bytes; large pieces are hashed off the event loop."""
        self.seen_bytes += len(chunk)
        if len(chunk) < _IN_THREAD_FROM_BYTES:
            self._update(chunk)
        else:
            await to_thread.run_sync(self._update, chunk)

    def digest(self) -> Digest:
        """Of all bytes so far."""
        git_sha1 = self._sha1.hexdigest() if self._sha1 is not None else str(self._git_sha1)
        return Digest(self.seen_bytes, self._sha256.hexdigest(), git_sha1)

    def _update(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        if self._sha1 is not None:
            self._sha1.update(chunk)


async def digest_of(data: AsyncIterable[bytes], hasher: FileHasher) -> Digest:
    """The hashes of a whole stream, by a new hasher."""
    async for chunk in data:
        await hasher.update(chunk)
    return hasher.digest()


def check_digest(
    name: str, found: Digest, *, size_bytes: int, git_sha1: str | None, sha256: str | None
) -> None:
    """Compare with what was announced; a hash that is None was not. Raises WrongBytes with both values."""
    if found.size_bytes != size_bytes:
        raise WrongBytes(f"{name}: {found.size_bytes} bytes arrived, {size_bytes} were announced")
    if sha256 is not None and found.sha256 != sha256:
        raise WrongBytes(f"{name}: sha256 is {found.sha256}, announced was {sha256}")
    if git_sha1 is not None and found.git_sha1 != git_sha1:
        raise WrongBytes(f"{name}: git sha1 is {found.git_sha1}, announced was {git_sha1}")
