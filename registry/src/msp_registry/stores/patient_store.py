"""A store that may be away for a while: what a job works with."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from msp_registry.stores.store import ObjectStat, ObjectStore, Part, PendingUpload, StoreUnavailable

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class PatientStore:
    """An ObjectStore over another, which asks anew for `patience_s` seconds while that one is unavailable.

    The patience is that of each call, and in `get` of each interruption. Every other error is raised at once.
    A call whose answer was lost is made twice; all calls stand that, and `begin_upload` then leaves an upload
    without parts behind.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        patience_s: float,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock
        self._away_since: float | None = None

    async def prepare(self) -> None:
        """As the store's own, retried."""
        await self._patiently(self._store.prepare)

    async def check(self) -> None:
        """As the store's own, retried."""
        await self._patiently(self._store.check)

    async def free_bytes(self) -> int | None:
        """As the store's own, retried."""
        return await self._patiently(self._store.free_bytes)

    async def put(self, key: str, data: bytes) -> None:
        """As the store's own, retried."""
        await self._patiently(partial(self._store.put, key, data))

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """Goes on at its offset after an interruption; the object must not change meanwhile."""
        outage = self._outage()
        while True:
            chunks = self._store.get(key, offset, length)
            try:
                async for chunk in chunks:
                    self._answered()
                    outage = self._outage()
                    offset += len(chunk)
                    length = None if length is None else length - len(chunk)
                    yield chunk
                self._answered()
                return
            except StoreUnavailable as error:
                await outage.wait_after(error)
            finally:
                await chunks.aclose()
            if length == 0:
                return  # interrupted after the last byte

    async def stat(self, key: str) -> ObjectStat:
        """As the store's own, retried."""
        return await self._patiently(partial(self._store.stat, key))

    async def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        """Collected whole before the first is given, so that a retry repeats none."""

        async def collect() -> Sequence[ObjectStat]:
            return [found async for found in self._store.list(prefix)]

        for found in await self._patiently(collect):
            yield found

    async def delete(self, key: str) -> None:
        """As the store's own, retried."""
        await self._patiently(partial(self._store.delete, key))

    async def presigned_url(self, key: str, expires_s: int) -> str | None:
        """As the store's own, retried."""
        return await self._patiently(partial(self._store.presigned_url, key, expires_s))

    async def begin_upload(self, key: str, *, size_bytes: int, part_bytes: int) -> str:
        """As the store's own, retried."""
        return await self._patiently(
            partial(self._store.begin_upload, key, size_bytes=size_bytes, part_bytes=part_bytes)
        )

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        """As the store's own, retried."""
        return await self._patiently(partial(self._store.put_part, key, upload_id, number, data))

    async def parts(self, key: str, upload_id: str) -> Sequence[Part]:
        """As the store's own, retried."""
        return await self._patiently(partial(self._store.parts, key, upload_id))

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """As the store's own, retried."""
        await self._patiently(partial(self._store.complete_upload, key, upload_id, parts))

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """As the store's own, retried."""
        await self._patiently(partial(self._store.abort_upload, key, upload_id))

    async def uploads(self, prefix: str) -> AsyncGenerator[PendingUpload, None]:
        """Collected whole, as `list`."""

        async def collect() -> Sequence[PendingUpload]:
            return [found async for found in self._store.uploads(prefix)]

        for found in await self._patiently(collect):
            yield found

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        outage = self._outage()
        while True:
            try:
                answer = await call()
            except StoreUnavailable as error:
                await outage.wait_after(error)
            else:
                self._answered()
                return answer

    def _outage(self) -> "_Outage":
        return _Outage(self._patience_s, self._sleep, self._clock, self._failed)

    def _failed(self, error: StoreUnavailable) -> None:
        if self._away_since is None:
            self._away_since = self._clock()
            log.warning("trying for %g s more: %s", self._patience_s, error)

    def _answered(self) -> None:
        if self._away_since is not None:
            log.info("the store is back after %.1f s", self._clock() - self._away_since)
            self._away_since = None


class _Outage:
    """One call's wait: pauses that double, until its patience is over."""

    def __init__(
        self,
        patience_s: float,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        failed: Callable[[StoreUnavailable], None],
    ) -> None:
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock
        self._failed = failed
        self._pause_s = _FIRST_PAUSE_S
        self._ends_at: float | None = None

    async def wait_after(self, error: StoreUnavailable) -> None:
        """Return when it is time for another try; raises the error when there is none left."""
        now = self._clock()
        if self._ends_at is None:
            self._ends_at = now + self._patience_s
        if now >= self._ends_at:
            raise error
        self._failed(error)
        await self._sleep(min(self._pause_s, self._ends_at - now))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
