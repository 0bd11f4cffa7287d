"""A store in memory, with a memory: what was written, and when it must fail."""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from msp_registry.stores.store import (
    PART_BYTES,
    NoSuchObject,
    NoSuchUpload,
    ObjectStat,
    Part,
    PendingUpload,
    StoreUnavailable,
    check_key,
)


@dataclass
class _Upload:
    key: str
    size_bytes: int
    part_bytes: int
    parts: dict[int, bytes] = field(default_factory=dict)


class MemoryStore:
    """An ObjectStore. While `down` it is unavailable; `puts` and `lists` tell what was written and listed."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.pending: dict[str, _Upload] = {}
        self.puts: list[str] = []
        self.deletes: list[str] = []
        self.lists: list[str] = []
        self.down = False
        self.free: int | None = None
        self.part_puts = 0

    async def prepare(self) -> None:
        self._answer()

    async def check(self) -> None:
        self._answer()

    async def free_bytes(self) -> int | None:
        self._answer()
        return self.free

    async def put(self, key: str, data: bytes) -> None:
        self._answer()
        assert len(data) <= PART_BYTES
        self.objects[check_key(key)] = bytes(data)
        self.puts.append(key)

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self._answer()
        if key not in self.objects:
            raise NoSuchObject(f"no object {key}")
        data = self.objects[key][offset:]
        data = data if length is None else data[:length]
        step = max(1000, len(data) // 16)
        for start in range(0, len(data), step):
            yield data[start : start + step]

    async def stat(self, key: str) -> ObjectStat:
        self._answer()
        if key not in self.objects:
            raise NoSuchObject(f"no object {key}")
        return ObjectStat(key, len(self.objects[key]), time.time())

    async def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        self._answer()
        self.lists.append(prefix)
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield ObjectStat(key, len(self.objects[key]), 0.0)

    async def delete(self, key: str) -> None:
        self._answer()
        self.objects.pop(key, None)
        self.deletes.append(key)

    async def presigned_url(self, key: str, expires_s: int) -> str | None:
        return None

    async def begin_upload(self, key: str, *, size_bytes: int, part_bytes: int) -> str:
        self._answer()
        upload_id = f"upload-{len(self.pending) + len(self.puts)}-{len(self.deletes)}"
        self.pending[upload_id] = _Upload(check_key(key), size_bytes, part_bytes)
        return upload_id

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        self._answer()
        upload = self._upload(key, upload_id)
        last = -(-upload.size_bytes // upload.part_bytes)
        assert 1 <= number <= last
        assert len(data) == (
            upload.part_bytes if number < last else upload.size_bytes - (last - 1) * upload.part_bytes
        )
        upload.parts[number] = bytes(data)
        self.part_puts += 1
        return Part(number, len(data), f"etag-{number}")

    async def parts(self, key: str, upload_id: str) -> Sequence[Part]:
        self._answer()
        stored = self._upload(key, upload_id).parts
        return [Part(number, len(data), f"etag-{number}") for number, data in sorted(stored.items())]

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        self._answer()
        upload = self._upload(key, upload_id)
        self.objects[key] = b"".join(upload.parts[part.number] for part in parts)
        self.puts.append(key)
        del self.pending[upload_id]

    async def abort_upload(self, key: str, upload_id: str) -> None:
        self._answer()
        self.pending.pop(upload_id, None)

    async def uploads(self, prefix: str) -> AsyncGenerator[PendingUpload, None]:
        self._answer()
        for upload_id, upload in list(self.pending.items()):
            if upload.key.startswith(prefix):
                yield PendingUpload(upload.key, upload_id, 0.0)

    def visible(self) -> set[str]:
        """Keys that make a snapshot visible: manifests and refs."""
        return {k for k in self.objects if k.endswith("/manifest.json") or "/.registry/refs/" in k}

    def _upload(self, key: str, upload_id: str) -> _Upload:
        upload = self.pending.get(upload_id)
        if upload is None or upload.key != key:
            raise NoSuchUpload(f"no upload {upload_id} for {key}")
        return upload

    def _answer(self) -> None:
        if self.down:
            raise StoreUnavailable("the store is down")
