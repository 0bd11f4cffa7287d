"""Puts whose bytes the server compares with a CRC-32, instead of a sha256 that only the signature needs.

Over plain HTTP minio's client hashes every body with sha256 to sign it, and the server does so again. That
is more work than sending and storing the bytes. The CRC-32 is a signed header that the server checks as well.
"""

import base64
import logging
from typing import Any

from isal import isal_zlib
from minio import Minio
from minio.error import S3Error

_HEADER = "x-amz-checksum-crc32"

# How servers refuse the header itself; other refusals are about the bytes, the key or the account.
_NOT_KNOWN = ("InvalidArgument", "InvalidRequest", "NotImplemented")

log = logging.getLogger(__name__)


class ChecksumClient(Minio):  # type: ignore[misc]  # minio has no types
    """minio's client; a request that carries a CRC-32 has an unsigned body."""

    def _build_headers(
        self, host: str, headers: Any = None, body: bytes | None = None, creds: Any = None
    ) -> Any:
        if not headers or _HEADER not in headers:
            return super()._build_headers(host, headers, body, creds)
        # Without the body nothing is hashed; urllib3 adds the length, which is not signed.
        built, date = super()._build_headers(host, headers, None, creds)
        return {**built, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, date


class CheckedPuts:
    """Puts into one bucket, of which the server refuses wrong bytes.

    A server that does not answer with the very CRC-32 has not looked at it: to such a one everything is sent
    as the client does by itself, from then on.
    """

    def __init__(self, client: Minio, bucket: str, *, by_crc: bool) -> None:
        self._client: Any = client
        self._bucket = bucket
        self._by_crc = by_crc

    def put(self, key: str, data: bytes, headers: dict[str, str], query: dict[str, str] | None = None) -> str:
        """The ETag. Raises S3Error."""
        if self._by_crc:
            etag = self._put_by_crc(key, data, headers, query)
            if etag is not None:
                return etag
            self._by_crc = False
            log.warning("the store does not check a CRC-32; every body is signed with its sha256 instead")
        return str(self._client._put_object(self._bucket, key, data, dict(headers), query).etag)

    def _put_by_crc(
        self, key: str, data: bytes, headers: dict[str, str], query: dict[str, str] | None
    ) -> str | None:
        """None where the server does not know the checksum."""
        # Five times as fast as zlib's.
        crc = base64.b64encode(isal_zlib.crc32(data).to_bytes(4, "big")).decode()
        try:
            made = self._client._put_object(self._bucket, key, data, {**headers, _HEADER: crc}, query)
        except S3Error as error:
            if error.code in _NOT_KNOWN:
                return None
            raise
        return str(made.etag) if made.http_headers.get(_HEADER) == crc else None
