"""A store that is away for a while costs a job time and nothing else."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from msp_registry.stores.patient_store import PatientStore
from msp_registry.stores.store import BadKey, NoSuchObject, NoSuchUpload, ObjectStat, StoreUnavailable
from support.registry_memory_store import MemoryStore
from support.registry_minio import run_minio
from support.registry_stores import s3

PATIENCE_S = 60.0


class Clock:
    """Time that passes only in `sleep`; `at` says what happens when."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses = list[float]()
        self.comes_back_at: float | None = None
        self.store: MemoryStore | None = None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if self.store is not None and self.comes_back_at is not None and self.now >= self.comes_back_at:
            self.store.down = False


class BreakingStore(MemoryStore):
    """Its `get` and `list` break after every `after` items."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.gets = list[tuple[int, int | None]]()
        self.listings = 0

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self.gets.append((offset, length))
        given = 0
        async for chunk in super().get(key, offset, length):
            if given == self.after:
                raise StoreUnavailable("the connection broke")
            given += 1
            yield chunk

    async def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        self.listings += 1
        given = 0
        async for found in super().list(prefix):
            if given == self.after and self.listings == 1:
                raise StoreUnavailable("the connection broke")
            given += 1
            yield found


def patient(store: MemoryStore, clock: Clock, patience_s: float = PATIENCE_S) -> PatientStore:
    clock.store = store
    return PatientStore(store, patience_s=patience_s, sleep=clock.sleep, clock=clock)


def away_for(store: MemoryStore, clock: Clock, seconds: float) -> None:
    store.down = True
    clock.comes_back_at = clock.now + seconds


async def test_every_call_waits_for_a_store_that_comes_back() -> None:
    inner, clock = MemoryStore(), Clock()
    store = patient(inner, clock)
    away_for(inner, clock, 30)
    await store.prepare()
    away_for(inner, clock, 30)
    await store.check()
    inner.free = 7
    away_for(inner, clock, 30)
    assert await store.free_bytes() == 7
    away_for(inner, clock, 30)
    await store.put("a", b"abc")
    away_for(inner, clock, 30)
    assert (await store.stat("a")).size_bytes == 3
    away_for(inner, clock, 30)
    assert [stat.key async for stat in store.list("")] == ["a"]
    away_for(inner, clock, 30)
    upload_id = await store.begin_upload("b", size_bytes=3, part_bytes=2)
    away_for(inner, clock, 30)
    await store.put_part("b", upload_id, 1, b"12")
    away_for(inner, clock, 30)
    assert [upload.key async for upload in store.uploads("")] == ["b"]
    await store.put_part("b", upload_id, 2, b"3")
    away_for(inner, clock, 30)
    parts = await store.parts("b", upload_id)
    away_for(inner, clock, 30)
    await store.complete_upload("b", upload_id, parts)
    away_for(inner, clock, 30)
    assert b"".join([chunk async for chunk in store.get("b")]) == b"123"
    away_for(inner, clock, 30)
    await store.abort_upload("b", upload_id)
    away_for(inner, clock, 30)
    await store.delete("b")
    assert set(inner.objects) == {"a"}


async def test_the_pauses_grow_to_five_seconds_and_end_with_the_patience() -> None:
    inner, clock = MemoryStore(), Clock()
    inner.down = True
    with pytest.raises(StoreUnavailable, match="down"):
        await patient(inner, clock, 20).put("a", b"x")
    assert clock.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 3.8])
    assert clock.now == pytest.approx(1020)


async def test_without_patience_the_first_failure_is_the_last() -> None:
    inner, clock = MemoryStore(), Clock()
    inner.down = True
    with pytest.raises(StoreUnavailable):
        await patient(inner, clock, 0).check()
    assert clock.pauses == []


async def test_other_errors_are_raised_at_once() -> None:
    clock = Clock()
    store = patient(MemoryStore(), clock)
    with pytest.raises(NoSuchObject):
        await store.stat("a")
    with pytest.raises(NoSuchObject):
        await anext(store.get("a"))
    with pytest.raises(NoSuchUpload):
        await store.parts("a", "nothing")
    with pytest.raises(BadKey):
        await store.put("../a", b"")
    assert clock.pauses == []


@pytest.mark.parametrize(("offset", "length"), [(0, None), (5, None), (0, 900), (17, 12_345)])
async def test_a_broken_read_goes_on_where_it_was(offset: int, length: int | None) -> None:
    inner, clock = BreakingStore(after=2), Clock()
    data = bytes(n % 251 for n in range(20_000))
    inner.objects["a"] = data
    got = b"".join([chunk async for chunk in patient(inner, clock).get("a", offset, length)])
    end = len(data) if length is None else offset + length
    assert got == data[offset:end]
    for before, after in zip(inner.gets, inner.gets[1:], strict=False):
        assert after[0] > before[0]  # nothing is read twice


async def test_a_read_has_its_whole_patience_for_each_interruption() -> None:
    inner, clock = BreakingStore(after=1), Clock()
    inner.objects["a"] = bytes(10_000)
    store = patient(inner, clock, 0.5)
    assert sum([len(chunk) async for chunk in store.get("a")]) == 10_000
    assert len(clock.pauses) > 5
    assert set(clock.pauses) == {0.2}


async def test_a_read_that_never_goes_on_ends_with_the_patience() -> None:
    inner, clock = BreakingStore(after=0), Clock()
    inner.objects["a"] = bytes(10)
    with pytest.raises(StoreUnavailable, match="broke"):
        await anext(patient(inner, clock, 20).get("a"))
    assert clock.now == pytest.approx(1020)


async def test_a_broken_listing_repeats_nothing() -> None:
    inner, clock = BreakingStore(after=2), Clock()
    for key in "abcde":
        inner.objects[key] = b""
    assert [stat.key async for stat in patient(inner, clock).list("")] == list("abcde")
    assert inner.listings == 2


async def test_an_outage_is_logged_once_at_its_beginning_and_once_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner, clock = MemoryStore(), Clock()
    store = patient(inner, clock)
    with caplog.at_level(logging.INFO, logger="msp_registry.stores.patient_store"):
        await store.put("a", b"")
        assert caplog.records == []
        away_for(inner, clock, 3)
        await store.put("a", b"")
        await store.put("a", b"")
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, "trying for 60 s more: the store is down"),
        (logging.INFO, "the store is back after 3.0 s"),
    ]


@pytest.mark.minio
async def test_an_upload_outlasts_a_minio_that_is_stopped_and_started(tmp_path: Path) -> None:
    failed = asyncio.Event()

    async def sleep(seconds: float) -> None:
        failed.set()
        await asyncio.sleep(seconds)

    with run_minio(tmp_path) as server:
        store = PatientStore(s3(server), patience_s=60, sleep=sleep, clock=time.monotonic)
        await store.prepare()
        upload_id = await store.begin_upload("a", size_bytes=(5 << 20) + 1, part_bytes=5 << 20)
        await store.put_part("a", upload_id, 1, bytes(5 << 20))
    second = asyncio.create_task(store.put_part("a", upload_id, 2, b"x"))
    await asyncio.wait_for(failed.wait(), 30)
    assert not second.done()
    with run_minio(tmp_path, server.endpoint):
        await asyncio.wait_for(second, 30)
        await store.complete_upload("a", upload_id, await store.parts("a", upload_id))
        assert (await store.stat("a")).size_bytes == (5 << 20) + 1
