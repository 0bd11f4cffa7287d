"""Where bytes rest: objects under keys, in a folder or in an S3 bucket.

StoreError
├── BadKey             a key that could leave the store, or that not every store can hold
├── NoSuchObject       nothing under this key
└── StoreUnavailable   the store does not answer, refuses, or is full; worth another try later
"""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 1 << 20
"""How much is read or written at a time: large enough that the hand-over to a thread costs nothing."""

# What S3 allows a key, and what every file system of Linux allows a name.
_MAX_KEY_BYTES = 1024
_MAX_SEGMENT_BYTES = 255


class StoreError(Exception):
    """Something that the store could not do."""


class BadKey(StoreError):
    """A key that could leave the store, or that not every store can hold."""


class NoSuchObject(StoreError):
    """Nothing under this key."""


class StoreUnavailable(StoreError):
    """The store does not answer, refuses, or is full."""


@dataclass(frozen=True)
class ObjectStat:
    """What a store knows of an object without reading it."""

    key: str
    size_bytes: int
    modified_at: float


class ObjectStore(Protocol):
    """What the registry needs of a store: the subset that a folder and every S3 server share.

    An object is whole or absent: a `put` that fails or is cancelled leaves what was there before. Every
    method raises BadKey for an unsafe key and StoreUnavailable when the store cannot be used.
    """

    async def prepare(self) -> None:
        """Make the folder or bucket if it is missing, and clear what a kill left behind."""

    async def check(self) -> None:
        """Return if the store can be used now."""

    async def put(self, key: str, data: AsyncIterable[bytes], *, size_bytes: int | None = None) -> None:
        """Store `data` once it has ended without an error; `size_bytes` may be given where it is known.

        An exception out of `data` is passed on, and nothing is stored.
        """

    def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes from `offset`, at most `length` of them (None: to the end). Raises NoSuchObject."""

    async def stat(self, key: str) -> ObjectStat:
        """Raises NoSuchObject."""

    def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        """All objects whose keys begin with `prefix`, ordered by key."""

    async def delete(self, key: str) -> None:
        """Remove the object; it is no error if there is none."""

    async def presigned_url(self, key: str, expires_s: int) -> str | None:
        """An address that gives the object to anyone for a time; None where a store has no such thing."""


def check_key(key: str) -> str:
    """The key itself. Raises BadKey unless it is a relative path without tricks, in every store's limits."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts):
        raise BadKey(f"{key[:200]!r} is no key: empty, '.' or '..' parts are not allowed")
    if any(ord(c) < 0x20 or c in "\\\x7f" for c in key):
        raise BadKey(f"{key[:200]!r} is no key: control characters and backslashes are not allowed")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise BadKey(f"{key[:200]!r} is no key: it is not valid Unicode") from None
    if max(sizes) > _MAX_SEGMENT_BYTES or sum(sizes) + len(sizes) - 1 > _MAX_KEY_BYTES:
        raise BadKey(
            f"{key[:200]!r} is no key: longer than {_MAX_KEY_BYTES} bytes, or a part longer than "
            f"{_MAX_SEGMENT_BYTES}"
        )
    return key


async def read_small(store: ObjectStore, key: str, limit_bytes: int) -> bytes:
    """A whole small object. Raises NoSuchObject, and StoreError when it is larger than the limit."""
    data = bytearray()
    async for chunk in store.get(key, 0, limit_bytes + 1):
        data += chunk
    if len(data) > limit_bytes:
        raise StoreError(f"{key} is larger than the {limit_bytes} bytes expected of it")
    return bytes(data)


async def write_small(store: ObjectStore, key: str, data: bytes) -> None:
    """Store a few bytes under a key."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield data

    await store.put(key, whole(), size_bytes=len(data))
