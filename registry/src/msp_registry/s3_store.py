"""An S3 bucket as the store, through minio's client, which blocks and therefore runs in threads.

Only what MinIO, its forks, versitygw and plainer servers share is used: no user metadata, no conditional
PUT, no server-side copy.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from datetime import timedelta
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import urllib3
from anyio import CapacityLimiter, to_thread
from minio import Minio
from minio.error import MinioException, S3Error

from msp_registry.s3_endpoint import S3Endpoint, http_pool
from msp_registry.store import (
    CHUNK_BYTES,
    NoSuchObject,
    ObjectStat,
    StoreError,
    StoreUnavailable,
    check_key,
)
from msp_registry.thread_feed import ReaderGone, ThreadFeed

_MIB = 1 << 20
_PART_BYTES = 16 * _MIB
_PART_BYTES_OF_UNKNOWN_LENGTH = 64 * _MIB
"""Times S3's 10,000 parts: 640 GiB."""

_ABSENT = ("NoSuchKey", "NoSuchObject")

P = ParamSpec("P")
T = TypeVar("T")


class S3Store:
    """An ObjectStore in one bucket, below an optional key prefix.

    Uploads hold about three parts in memory: one being sent, one being gathered, one waiting.
    """

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
        self._client = Minio(
            endpoint.host,
            access_key=access_key,
            secret_key=secret_key,
            secure=endpoint.secure,
            region=region,
            http_client=http_pool(),
        )
        self._endpoint = endpoint
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._limiter = CapacityLimiter(64)

    async def prepare(self) -> None:
        """Make the bucket if it is missing and this account may."""
        if not await self._do(self._client.bucket_exists, self._bucket):
            await self._do(self._client.make_bucket, self._bucket)

    async def check(self) -> None:
        """Return if the bucket is there. Cancelling does not wait for the answer."""
        call = functools.partial(self._do_blocking, self._client.bucket_exists, self._bucket)
        if not await to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True):
            raise StoreUnavailable(f"{self._endpoint.url} has no bucket {self._bucket!r}")

    async def put(self, key: str, data: AsyncIterable[bytes], *, size_bytes: int | None = None) -> None:
        """One PUT, or a multipart upload that is aborted when anything fails."""
        part_bytes = _part_bytes(size_bytes)
        feed = ThreadFeed(limit_bytes=part_bytes)
        upload = asyncio.ensure_future(
            self._do(self._upload, feed, self._key(key), -1 if size_bytes is None else size_bytes, part_bytes)
        )
        try:
            await feed.pump(data)
        except ReaderGone:
            await upload  # raises why it went
            raise
        except BaseException:
            # The stream failed or we are cancelled: the thread notices at its next read, and aborts.
            await asyncio.wait([upload])
            upload.exception()
            raise
        await upload

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """One ranged GET, read in pieces."""
        if length == 0:
            await self.stat(key)
            return  # a length of 0 means "all" to the client
        if offset and offset >= (await self.stat(key)).size_bytes:
            return
        response: Any = await self._do(
            self._client.get_object, self._bucket, self._key(key), offset=offset, length=length or 0
        )
        whole = False
        try:
            while chunk := await self._do(response.read, CHUNK_BYTES):
                yield chunk
            whole = True
        finally:
            # A connection with unread bytes cannot serve the next request.
            if not whole:
                response.close()
            response.release_conn()

    async def stat(self, key: str) -> ObjectStat:
        """A HEAD. Raises NoSuchObject."""
        found: Any = await self._do(self._client.stat_object, self._bucket, self._key(key))
        return ObjectStat(key, found.size, found.last_modified.timestamp())

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

    def _key(self, key: str) -> str:
        return check_key(self._prefix + check_key(key))

    def _upload(self, feed: ThreadFeed, key: str, length: int, part_bytes: int) -> None:
        try:
            self._client.put_object(
                self._bucket,
                key,
                feed,
                length,
                part_size=part_bytes,
                # One part at a time: with more, minio leaves its threads behind when a read fails.
                num_parallel_uploads=1,
            )
        finally:
            feed.reader_ended()

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(self._do_blocking, work, *args, **kwargs)
        return await to_thread.run_sync(call, limiter=self._limiter)

    def _do_blocking(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except S3Error as error:
            raise self._translated(error) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailable(f"the store at {self._endpoint.url} does not answer: {error}") from error

    def _translated(self, error: S3Error) -> StoreError:
        if error.code in _ABSENT:
            return NoSuchObject(f"no object {str(error.object_name).removeprefix(self._prefix)}")
        told = f"the store at {self._endpoint.url}, bucket {self._bucket!r}: {error.code}: {error.message}"
        if error.code == "AccessDenied":
            told += "; make the bucket and its account with `python -m msp_registry.init_store`"
        return StoreUnavailable(told)


def _part_bytes(size_bytes: int | None) -> int:
    """Parts of 16 MiB, larger where 10,000 of them, S3's limit, would not be enough."""
    if size_bytes is None:
        return _PART_BYTES_OF_UNKNOWN_LENGTH
    needed = -(-size_bytes // 10_000)
    return max(_PART_BYTES, -(-needed // _MIB) * _MIB)
