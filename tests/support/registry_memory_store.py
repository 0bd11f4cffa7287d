"""A store in memory, with a memory: what was written, and when it must fail."""

import time
from collections.abc import AsyncGenerator, AsyncIterable

from msp_registry.store import NoSuchObject, ObjectStat, StoreUnavailable, check_key


class MemoryStore:
    """An ObjectStore. While `down` it is unavailable; `puts` lists the keys that were written."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.deletes: list[str] = []
        self.down = False

    async def prepare(self) -> None:
        self._answer()

    async def check(self) -> None:
        self._answer()

    async def put(self, key: str, data: AsyncIterable[bytes], *, size_bytes: int | None = None) -> None:
        self._answer()
        whole = b"".join([chunk async for chunk in data])
        assert size_bytes in (None, len(whole))
        self._answer()
        self.objects[check_key(key)] = whole
        self.puts.append(key)

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self._answer()
        if key not in self.objects:
            raise NoSuchObject(f"no object {key}")
        data = self.objects[key][offset:]
        data = data if length is None else data[:length]
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    async def stat(self, key: str) -> ObjectStat:
        self._answer()
        if key not in self.objects:
            raise NoSuchObject(f"no object {key}")
        return ObjectStat(key, len(self.objects[key]), time.time())

    async def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        self._answer()
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield ObjectStat(key, len(self.objects[key]), 0.0)

    async def delete(self, key: str) -> None:
        self._answer()
        self.objects.pop(key, None)
        self.deletes.append(key)

    async def presigned_url(self, key: str, expires_s: int) -> str | None:
        return None

    def visible(self) -> set[str]:
        """Keys that make a snapshot visible: manifests and refs."""
        return {k for k in self.objects if k.endswith("/manifest.json") or "/.registry/refs/" in k}

    def _answer(self) -> None:
        if self.down:
            raise StoreUnavailable("the store is down")
