"""Putting one verified file of a snapshot into the store, and what both ways in share."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msp_registry.failures import QuotaExceeded, WrongBytes
from msp_registry.hashing import Digest, FileHasher, digest_of
from msp_registry.inspection import ReadRange
from msp_registry.layout import file_key
from msp_registry.progress import Progress
from msp_registry.store import NoSuchObject, ObjectStore


async def store_verified(
    store: ObjectStore,
    key: str,
    data: AsyncGenerator[bytes, None],
    *,
    size_bytes: int,
    git_sha1: str | None,
    sha256: str | None,
    progress: Progress,
) -> Digest:
    """Stream into the store while hashing. Raises WrongBytes, and then nothing is stored under `key`.

    The comparison happens inside the stream, before its end, so that the store never completes an object
    with other bytes than announced.
    """
    hasher = FileHasher(size_bytes)
    told = 0

    async def checked() -> AsyncGenerator[bytes, None]:
        nonlocal told
        async for chunk in data:
            if hasher.seen_bytes + len(chunk) > size_bytes:
                raise WrongBytes(f"{key}: more than the {size_bytes} bytes that were announced")
            await hasher.update(chunk)
            yield chunk
            told += len(chunk)
            await progress.moved(len(chunk))
        check_digest(key, hasher.digest(), size_bytes=size_bytes, git_sha1=git_sha1, sha256=sha256)

    try:
        async with aclosing(data), aclosing(checked()) as stream:
            await store.put(key, stream, size_bytes=size_bytes)
    except BaseException:
        await progress.moved(-told)
        raise
    return hasher.digest()


async def already_stored(
    store: ObjectStore, key: str, *, size_bytes: int, git_sha1: str | None, sha256: str | None
) -> Digest | None:
    """The hashes of an object that an earlier, broken-off job left, if they are the right ones."""
    try:
        if (await store.stat(key)).size_bytes != size_bytes:
            return None
        found = await digest_of(store.get(key), size_bytes)
        check_digest(key, found, size_bytes=size_bytes, git_sha1=git_sha1, sha256=sha256)
    except (NoSuchObject, WrongBytes):
        return None
    return found


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


def reader_of(store: ObjectStore, repo_id: str, commit: str) -> ReadRange:
    """Ranges of a snapshot's files, read back from the store."""

    async def read(path: str, offset: int, length: int) -> bytes:
        data = bytearray()
        async for chunk in store.get(file_key(repo_id, commit, path), offset, length):
            data += chunk
        return bytes(data)

    return read


def check_quota(quota_bytes: int | None, *, stored_bytes: int, new_bytes: int) -> None:
    """Raises QuotaExceeded with both numbers."""
    if quota_bytes is not None and stored_bytes + new_bytes > quota_bytes:
        raise QuotaExceeded(
            f"{new_bytes} bytes do not fit: {stored_bytes} of REGISTRY_QUOTA_BYTES={quota_bytes} are used; "
            "delete a model or raise the quota"
        )
