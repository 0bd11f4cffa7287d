"""A prefix of a bucket on another S3 server, from which a model is imported."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import urllib3
from anyio import to_thread
from minio import Minio
from minio.error import MinioException, S3Error

from msp_common.snapshots import MANIFEST_PATH
from msp_registry.failures import BadFolder, SourceUnreachable
from msp_registry.imports.source import MAX_FILES, SourceFile, check_manifest_size, is_left_behind
from msp_registry.layout import UnsafePath, check_paths
from msp_registry.stores.s3_endpoint import S3Endpoint, http_pool
from msp_registry.stores.store import CHUNK_BYTES

_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_PAGE = 1000

# A connection that breaks is opened again where it broke off, unless it brings nothing so often in a row.
_TRIES_WITHOUT_A_BYTE = 3

T = TypeVar("T")


@dataclass(frozen=True)
class _Object:
    size_bytes: int
    etag: str


class OtherS3:
    """The server that REGISTRY_IMPORT_S3_ENDPOINT names."""

    def __init__(
        self, endpoint: S3Endpoint, *, access_key: str | None, secret_key: str | None, region: str
    ) -> None:
        """Without keys, only what anybody may read can be imported."""
        self.endpoint = endpoint
        self.client = Minio(
            endpoint.host,
            access_key=access_key,
            secret_key=secret_key,
            secure=endpoint.secure,
            region=region,
            http_client=http_pool(),
        )

    def prefix(self, address: str) -> "S3Prefix":
        """What `s3://bucket/prefix` names there. Raises BadFolder."""
        found = _ADDRESS.fullmatch(address)
        if found is None or "\0" in address:
            raise BadFolder(f"{address[:200]!r} is no address of a bucket; expected s3://bucket/prefix")
        return S3Prefix(self, found[1], (found[2] or "").strip("/"))


class S3Prefix:
    """An ImportSource."""

    refusal = BadFolder

    def __init__(self, server: OtherS3, bucket: str, prefix: str) -> None:
        self._server = server
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._objects: dict[str, _Object] = {}

    @property
    def kind(self) -> str:
        """Its address."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def name(self) -> str:
        """Its address, and on which server."""
        return f"{self.kind} on {self._server.endpoint.url}"

    async def scan(self) -> list[SourceFile]:
        """Raises BadFolder for unsafe names, no file, no bucket; SourceUnreachable."""
        self._objects = await self._blocking(self._listed)
        files = {p: o for p, o in sorted(self._objects.items()) if not is_left_behind(p)}
        if not files:
            raise BadFolder(f"{self.name} has no files")
        try:
            check_paths(files)
        except UnsafePath as error:
            raise BadFolder(f"{self.name}: {error}") from None
        return [SourceFile(path, found.size_bytes) for path, found in files.items()]

    async def manifest(self) -> bytes | None:
        """From the object `.registry/manifest.json`."""
        found = self._objects.get(MANIFEST_PATH)
        if found is None:
            return None
        check_manifest_size(found.size_bytes, self.refusal)
        return b"".join([chunk async for chunk in self.read(MANIFEST_PATH, 0, found.size_bytes)])

    async def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Ranged GETs. Raises BadFolder when the object changed, SourceUnreachable."""
        tries = 0
        while length:
            came = 0
            broke: Exception | None = None
            try:
                async with aclosing(self._once(path, offset, length)) as chunks:
                    async for chunk in chunks:
                        came += len(chunk)
                        offset += len(chunk)
                        length -= len(chunk)
                        yield chunk
            except SourceUnreachable as error:
                broke = error
            tries = 0 if came else tries + 1
            if length and tries >= _TRIES_WITHOUT_A_BYTE:
                raise broke or SourceUnreachable(f"{self.name} does not give all bytes of {path}")

    async def _once(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        client = self._server.client
        key = self._prefix + path
        response: Any = await self._blocking(
            lambda: client.get_object(self._bucket, key, offset=offset, length=length)
        )
        left = length
        try:
            if response.headers.get("ETag", "").strip('"') != self._objects[path].etag:
                raise BadFolder(f"{path} in {self.name} changed while it was imported; import it again")
            while left:
                chunk = await self._blocking(partial(response.read, min(left, CHUNK_BYTES)))
                if not chunk:
                    return
                left -= len(chunk)
                yield chunk
        finally:
            # A connection with unread bytes cannot serve the next request.
            if left:
                response.close()
            response.release_conn()

    def _listed(self) -> dict[str, _Object]:
        found: dict[str, _Object] = {}
        listing = iter(
            self._server.client.list_objects(self._bucket, prefix=self._prefix or None, recursive=True)
        )
        while page := list(islice(listing, _PAGE)):
            for item in page:
                path = str(item.object_name).removeprefix(self._prefix)
                if path.endswith("/") and not item.size:
                    continue  # what consoles leave to show an empty folder
                found[path] = _Object(int(item.size or 0), str(item.etag or "").strip('"'))
            if len(found) > MAX_FILES:
                raise BadFolder(f"{self.name} has more than {MAX_FILES} files")
        return found

    async def _blocking(self, work: Callable[[], T]) -> T:
        try:
            return await to_thread.run_sync(work)
        except S3Error as error:
            raise BadFolder(f"{self.name} cannot be read: {error.code}: {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise SourceUnreachable(
                f"{self.name} does not answer: {error}; import it again once the server does"
            ) from error
