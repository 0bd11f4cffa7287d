"""S3's single and multipart uploads, as calls that block.

minio's client has them only as private methods, because its public `put_object` reads a stream and aborts
what it began when that fails: with it nothing could be carried on after a restart. They are used nowhere
else; pyproject.toml keeps minio below 7.3.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from minio import Minio
from minio.datatypes import Part as MinioPart
from minio.error import S3Error

from msp_registry.stores.s3_checksums import CheckedPuts
from msp_registry.stores.store import NoSuchUpload, Part, PendingUpload, StoreUnavailable

_NO_LISTING = ("NotImplemented", "MethodNotAllowed")

# No server makes other ids. Both MinIO and versitygw take them for names of files: aborting "", and on
# versitygw also "." or "/", removes all the key's uploads.
_ID = re.compile(r"(?!\.+$)[A-Za-z0-9._~+=-]{1,1024}")


class S3Uploads:
    """Uploads into one bucket. Keys are whole ones, and errors are minio's.

    `completing` is a client that waits long for an answer. `by_crc`: `client` is a ChecksumClient, and the
    way to the server is plain HTTP.
    """

    def __init__(self, client: Minio, bucket: str, *, completing: Minio, by_crc: bool) -> None:
        self._client: Any = client
        self._completing: Any = completing
        self._bucket = bucket
        self._puts = CheckedPuts(client, bucket, by_crc=by_crc)

    def put(self, key: str, data: bytes) -> None:
        """One PUT of these very bytes; the public call would copy them."""
        self._puts.put(key, data, {"Content-Type": "application/octet-stream"})

    def begin(self, key: str) -> str:
        """The server's id for it."""
        upload_id: str = self._client._create_multipart_upload(self._bucket, key, headers={})
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        """The server compares the bytes with their CRC-32 or signed hash, or with their MD5 under TLS."""
        _check_id(key, upload_id)
        # Without a word of checksums when the upload begins, each part may have its own, and completing and
        # listing need none.
        where = {"partNumber": str(number), "uploadId": upload_id}
        return Part(number, len(data), self._puts.put(key, data, {}, where))

    def parts(self, key: str, upload_id: str) -> list[Part]:
        """Asked for in pages of 1,000."""
        _check_id(key, upload_id)
        found = list[Part]()
        while True:
            last = found[-1].number if found else 0
            page = self._client._list_parts(
                self._bucket, key, upload_id, part_number_marker=str(last) if last else None
            )
            # Only what follows: a server that ignores the marker must not keep us here for ever.
            new = [Part(p.part_number, p.size or 0, p.etag) for p in page.parts if p.part_number > last]
            found += new
            if not page.is_truncated or not new:
                return found

    def complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the object. Repeated after a lost answer, it is done if the object is made of these parts."""
        _check_id(key, upload_id)
        try:
            # versitygw calls an upload complete that it does not have, if there is an object under the key,
            # and one that it is still completing.
            self._client._list_parts(self._bucket, key, upload_id, max_parts=1)
            made = self._completing._complete_multipart_upload(
                self._bucket, key, upload_id, [MinioPart(p.number, p.etag) for p in parts]
            )
        except S3Error as error:
            if error.code == "NoSuchUpload" and self._is_made_of(key, parts):
                return
            raise
        if made.etag is None:
            # S3 may begin to answer with 200 and only then fail.
            raise StoreUnavailable(f"completing the upload of {key} failed after a status of 200")

    def abort(self, key: str, upload_id: str) -> None:
        """Whether there is one or not."""
        if not _ID.fullmatch(upload_id):
            return
        try:
            self._client._abort_multipart_upload(self._bucket, key, upload_id)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    def pending(self, prefix: str) -> list[PendingUpload]:
        """Uploads below a prefix, the oldest first, as far as the server tells.

        MinIO takes a prefix for a whole key, and without one tells only what was begun since it started. So
        both are asked for; servers that list properly answer alike twice. MinIO itself forgets unfinished
        uploads after 24 hours.
        """
        found = {u.upload_id: u for asked in {prefix, ""} for u in self._listed(asked)}
        return sorted((u for u in found.values() if u.key.startswith(prefix)), key=lambda u: u.begun_at)

    def _listed(self, prefix: str) -> list[PendingUpload]:
        found = list[PendingUpload]()
        markers: tuple[str | None, str | None] = (None, None)
        while True:
            try:
                page = self._client._list_multipart_uploads(
                    self._bucket, prefix=prefix, key_marker=markers[0], upload_id_marker=markers[1]
                )
            except S3Error as error:
                if error.code in _NO_LISTING:
                    return found
                raise
            for told in page.uploads:
                begun = told.initiated_time.timestamp() if told.initiated_time else 0.0
                found.append(PendingUpload(told.object_name, told.upload_id, begun))
            # minio 7.2.20 keeps the second marker under a name with a stray "self.".
            following = (page.next_key_marker, getattr(page, "self._next_upload_id_marker", None))
            if not page.is_truncated or following == markers:
                return found
            markers = following

    def _is_made_of(self, key: str, parts: Sequence[Part]) -> bool:
        """By the ETag that S3 gives such an object; its size alone could be that of an older one."""
        try:
            digests = b"".join(bytes.fromhex(part.etag) for part in parts)
            found = self._client.stat_object(self._bucket, key)
        except (ValueError, S3Error):
            return False
        expected = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        return bool(found.etag == expected and found.size == sum(part.size_bytes for part in parts))


def _check_id(key: str, upload_id: str) -> None:
    if not _ID.fullmatch(upload_id):
        raise NoSuchUpload(f"no upload {upload_id[:100]!r} for {key}")
