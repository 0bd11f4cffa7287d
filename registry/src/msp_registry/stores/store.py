"""Where bytes rest: objects under keys, in a folder or in an S3 bucket.

StoreError
├── BadKey             a key that could leave the store, or that not every store can hold
├── NoSuchObject       nothing under this key
├── NoSuchUpload       the upload was completed, aborted, or never begun
├── StoreFull          no room left
└── StoreUnavailable   the store does not answer or refuses; worth another try later
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 1 << 20
"""How much is read or written at a time: large enough that the hand-over to a thread costs nothing."""

PART_BYTES = 16 << 20
"""The ordinary size of an upload's parts, and the largest object that is put at once."""

MAX_PARTS = 10_000
"""S3's limit for one upload."""

# What S3 allows a key, and what every file system of Linux allows a name.
_MAX_KEY_BYTES = 1024
_MAX_SEGMENT_BYTES = 255


class StoreError(Exception):
    """Something that the store could not do."""


class BadKey(StoreError):
    """A key that could leave the store, or that not every store can hold."""


class NoSuchObject(StoreError):
    """Nothing under this key."""


class NoSuchUpload(StoreError):
    """The upload was completed, aborted, or never begun."""


class StoreFull(StoreError):
    """No room left, for the disk or for the account."""


class StoreUnavailable(StoreError):
    """The store does not answer, or refuses."""


@dataclass(frozen=True)
class ObjectStat:
    """What a store knows of an object without reading it."""

    key: str
    size_bytes: int
    modified_at: float


@dataclass(frozen=True)
class Part:
    """A stored part of an upload."""

    number: int
    """From 1."""
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class PendingUpload:
    """An upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: float


class ObjectStore(Protocol):
    """What the registry needs of a store: the subset that a folder and every S3 server share.

    An object is whole or absent: a `put` that fails leaves what was there before, one that is cancelled that
    or the new object, and an upload's object appears with `complete_upload`. Every method raises BadKey for
    an unsafe key, StoreUnavailable when the store cannot be used, and StoreFull when it has no room.
    """

    async def prepare(self) -> None:
        """Make the folder or bucket if it is missing, and clear what a kill left behind (not uploads)."""

    async def check(self) -> None:
        """Return if the store can be used now."""

    async def free_bytes(self) -> int | None:
        """Room that is left; None where the store cannot tell."""

    async def put(self, key: str, data: bytes) -> None:
        """Store a small object, at most PART_BYTES."""

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

    async def begin_upload(self, key: str, *, size_bytes: int, part_bytes: int) -> str:
        """The id of a new upload in parts of `part_bytes`, the last one shorter; it outlives this process."""

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        """Store one part, in any order, several at once; again under a number replaces it.

        Raises NoSuchUpload.
        """

    async def parts(self, key: str, upload_id: str) -> Sequence[Part]:
        """The parts that are stored, by number. Raises NoSuchUpload."""

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the object of all its parts, by number. Repeating it after a lost answer is safe.

        Raises NoSuchUpload, and StoreError when a part is missing or is not the one that is stored.
        """

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget the upload and its parts; it is no error if there is none."""

    def uploads(self, prefix: str) -> AsyncGenerator[PendingUpload, None]:
        """Uploads below a prefix that the store still holds parts of, as far as it can tell."""


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


def part_bytes_of(size_bytes: int) -> int:
    """The size of parts for an object: PART_BYTES, whole MiB more where MAX_PARTS of them are not enough."""
    needed = -(-size_bytes // MAX_PARTS)
    return max(PART_BYTES, -(-needed // CHUNK_BYTES) * CHUNK_BYTES)
