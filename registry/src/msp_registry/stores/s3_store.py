"""An S3 bucket as the store, through minio's client, which blocks and therefore runs in threads.

Only what MinIO, its forks, versitygw and plainer servers share is used: no user metadata, no conditional
PUT, no server-side copy.
"""

import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import urllib3
from anyio import CapacityLimiter, to_thread
from minio import Minio
from minio.error import MinioException, S3Error

from msp_registry.stores.minio_capacity import minio_free_bytes
from msp_registry.stores.s3_checksums import ChecksumClient
from msp_registry.stores.s3_endpoint import S3Endpoint, http_pool
from msp_registry.stores.s3_request import S3Account
from msp_registry.stores.s3_uploads import S3Uploads
from msp_registry.stores.store import (
    CHUNK_BYTES,
    NoSuchObject,
    NoSuchUpload,
    ObjectStat,
    Part,
    PendingUpload,
    StoreError,
    StoreFull,
    StoreUnavailable,
    check_key,
)
from msp_registry.stores.store_threads import StoreThreads

_THREADS = 64

_COMPLETING_S = 3600.0
"""versitygw copies about 400 MB in a second when it completes an upload: enough for an object of 1 TB."""

_ABSENT = ("NoSuchKey", "NoSuchObject")
_FULL = ("XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage")
_FULL_STATUS = 507
_PAST_THE_END = "InvalidRange"
# No other try will help: the request itself cannot be done.
_IN_VAIN = (
    "InvalidPart",
    "InvalidPartOrder",
    "EntityTooSmall",
    "EntityTooLarge",
    "ObjectParentIsFile",
    "ExistingObjectIsDirectory",
)

P = ParamSpec("P")
T = TypeVar("T")


class S3Store:
    """An ObjectStore in one bucket, below an optional key prefix."""

    def __init__(
        self,
        endpoint: S3Endpoint,
        *,
        access_key: str,
        secret_key: str,
        bucket: str,
        region: str,
        prefix: str = "",
    ) -> None:
        self._account = S3Account(access_key, secret_key, region)
        self._pool = http_pool(_THREADS)
        self._client = _client(endpoint, self._account, self._pool)
        # Some servers join the parts byte by byte, and are silent meanwhile.
        completing = _client(endpoint, self._account, http_pool(read_s=_COMPLETING_S))
        self._uploads = S3Uploads(self._client, bucket, completing=completing, by_crc=not endpoint.secure)
        self._endpoint = endpoint
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._threads = StoreThreads(_THREADS)
        self._checks = CapacityLimiter(4)

    async def prepare(self) -> None:
        """Make the bucket if it is missing and this account may."""
        if not await self._do(self._client.bucket_exists, self._bucket):
            await self._do(self._client.make_bucket, self._bucket)

    async def check(self) -> None:
        """Return if the bucket is there. Cancelling does not wait for the answer."""
        call = functools.partial(self._translating, self._client.bucket_exists, self._bucket)
        # Of threads of its own: it must tell the store's health also while all others transfer.
        if not await to_thread.run_sync(call, limiter=self._checks, abandon_on_cancel=True):
            raise StoreUnavailable(f"{self._endpoint.url} has no bucket {self._bucket!r}")

    async def free_bytes(self) -> int | None:
        """From MinIO and its forks, if the account may ask; other servers cannot tell."""
        return await self._do(minio_free_bytes, self._pool, self._endpoint, self._account)

    async def put(self, key: str, data: bytes) -> None:
        """One PUT."""
        await self._do(self._uploads.put, self._key(key), data)

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """One ranged GET, read in pieces."""
        if length == 0:
            await self.stat(key)
            return  # a length of 0 means "all" to the client
        # Filled in the thread: a cancellation while it opens must not lose the connection.
        answers: list[Any] = []
        whole = False
        try:
            if not await self._do(self._open, answers, key, offset, length or 0):
                return
            answer = answers[0]
            read = functools.partial(self._translating, answer.read, CHUNK_BYTES)
            hurry = functools.partial(_cut, answer)
            while chunk := await self._threads.run_hurried(hurry, read):
                yield chunk
            whole = True
        finally:
            for answer in answers:
                # A connection with unread bytes cannot serve the next request.
                if not whole:
                    answer.close()
                answer.release_conn()

    async def stat(self, key: str) -> ObjectStat:
        """A HEAD. Raises NoSuchObject."""
        return await self._do(self._stat, key)

    async def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        """Pages of 1,000."""
        found = iter(self._client.list_objects(self._bucket, prefix=self._prefix + prefix, recursive=True))
        while page := await self._do(lambda: list(islice(found, 1000))):
            for item in page:
                name = item.object_name.removeprefix(self._prefix)
                yield ObjectStat(name, item.size, item.last_modified.timestamp())

    async def delete(self, key: str) -> None:
        """A DELETE, which S3 answers alike whether there was an object or not."""
        await self._do(self._client.remove_object, self._bucket, self._key(key))

    async def presigned_url(self, key: str, expires_s: int) -> str | None:
        """Signed with this account's key; at most seven days."""
        url: str = self._client.presigned_get_object(
            self._bucket, self._key(key), expires=timedelta(seconds=expires_s)
        )
        return url

    async def begin_upload(self, key: str, *, size_bytes: int, part_bytes: int) -> str:
        """The server's own id. All parts but the last must have at least 5 MiB."""
        return await self._do(self._uploads.begin, self._key(key))

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        """One PUT of these very bytes."""
        return await self._do(self._uploads.put_part, self._key(key), upload_id, number, data)

    async def parts(self, key: str, upload_id: str) -> Sequence[Part]:
        """As the server lists them."""
        return await self._do(self._uploads.parts, self._key(key), upload_id)

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Can be repeated when the answer was lost."""
        await self._do(self._uploads.complete, self._key(key), upload_id, parts)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Whether there is one or not."""
        await self._do(self._uploads.abort, self._key(key), upload_id)

    async def uploads(self, prefix: str) -> AsyncGenerator[PendingUpload, None]:
        """As far as the server tells: see S3Uploads.pending."""
        for found in await self._do(self._uploads.pending, self._prefix + prefix):
            yield PendingUpload(found.key.removeprefix(self._prefix), found.upload_id, found.begun_at)

    def _key(self, key: str) -> str:
        return check_key(self._prefix + check_key(key))

    def _open(self, answers: Any, key: str, offset: int, length: int) -> bool:
        """Whether there is anything from the offset on."""
        try:
            answers.append(
                self._client.get_object(self._bucket, self._key(key), offset=offset, length=length)
            )
        except S3Error as error:
            if error.code == _PAST_THE_END:
                return False
            raise _absent(key, error) from error
        return True

    def _stat(self, key: str) -> ObjectStat:
        try:
            found: Any = self._client.stat_object(self._bucket, self._key(key))
        except S3Error as error:
            raise _absent(key, error) from error
        return ObjectStat(key, found.size, found.last_modified.timestamp())

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._threads.run(functools.partial(self._translating, work, *args, **kwargs))

    def _translating(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except S3Error as error:
            raise self._translated(error) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailable(f"the store at {self._endpoint.url} does not answer: {error}") from error

    def _translated(self, error: S3Error) -> StoreError:
        told = f"the store at {self._endpoint.url}, bucket {self._bucket!r}: {error.code}: {error.message}"
        if error.code == "NoSuchUpload":
            return NoSuchUpload(told)
        if error.code in _FULL or error.response.status == _FULL_STATUS:
            return StoreFull(told)
        if error.code in _IN_VAIN:
            return StoreError(told)
        if error.code == "AccessDenied":
            told += "; make the bucket and its account with `python -m msp_registry.init_store`"
        return StoreUnavailable(told)


def _client(endpoint: S3Endpoint, account: S3Account, pool: urllib3.PoolManager) -> Minio:
    return ChecksumClient(
        endpoint.host,
        access_key=account.access_key,
        secret_key=account.secret_key,
        secure=endpoint.secure,
        region=account.region,
        http_client=pool,
    )


def _absent(key: str, error: S3Error) -> Exception:
    # By our own key: versitygw's answer does not name the object.
    return NoSuchObject(f"no object {key}") if error.code in _ABSENT else error


def _cut(answer: Any) -> None:
    """Ends a read that waits in another thread; closing would wait for that read."""
    # Already read to its end, or closed by the server.
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        answer.shutdown()
