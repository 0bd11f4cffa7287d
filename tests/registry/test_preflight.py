"""What a snapshot still needs, and whether there is room for it."""

import pytest

from msp_registry.catalogue import Catalogue
from msp_registry.failures import NotEnoughSpace, QuotaExceeded
from msp_registry.layout import file_key, upload_key
from msp_registry.stores.store import ObjectStore
from msp_registry.transfers.preflight import Need, check_free, check_quota, check_room, need_of
from msp_registry.transfers.upload_record import UploadRecord, write_record
from support.registry_memory_store import MemoryStore
from support.registry_mirroring import remote

REPO, COMMIT = "org/tiny", "c0ffee" * 6 + "abcd"
LARGE = remote("large.gguf", bytes(10_000))
SMALL = remote("small.json", bytes(50))


async def begin(store: MemoryStore, *parts: int, size_bytes: int = 10_000) -> str:
    """An upload of the large file that was broken off after these parts of 3000 bytes."""
    key = file_key(REPO, COMMIT, LARGE.path)
    upload_id = await store.begin_upload(key, size_bytes=size_bytes, part_bytes=3000)
    for number in parts:
        await store.put_part(key, upload_id, number, bytes(min(3000, size_bytes - 3000 * (number - 1))))
    record = UploadRecord(path=LARGE.path, size_bytes=size_bytes, part_bytes=3000, upload_id=upload_id)
    await write_record(store, upload_key(REPO, COMMIT, LARGE.path), record)
    return upload_id


async def need(store: ObjectStore) -> Need:
    return await need_of(store, REPO, COMMIT, [LARGE, SMALL])


async def test_of_an_empty_store_everything_is_needed() -> None:
    assert await need(MemoryStore()) == Need(10_050, 10_050)


async def test_whole_objects_are_not_needed_and_those_of_another_size_are() -> None:
    store = MemoryStore()
    await store.put(file_key(REPO, COMMIT, SMALL.path), bytes(50))
    await store.put(file_key(REPO, COMMIT, LARGE.path), bytes(9_999))
    assert await need(store) == Need(10_000, 10_000)


async def test_stored_parts_need_no_more_room_but_count_against_the_quota() -> None:
    store = MemoryStore()
    await begin(store, 1, 4)
    assert await need(store) == Need(10_050, 6_050)


async def test_parts_that_cannot_be_used_are_needed_again() -> None:
    store = MemoryStore()
    store.pending.pop(await begin(store, 1, 2))
    assert await need(store) == Need(10_050, 10_050)
    await begin(store, 1, 2, size_bytes=9_000)
    assert await need(store) == Need(10_050, 10_050)


async def test_room_is_asked_of_the_store_and_the_quota() -> None:
    store = MemoryStore()
    catalogue = Catalogue(store)
    await begin(store, 1, 4)
    store.free = 6_050
    await check_room(store, catalogue, REPO, COMMIT, [LARGE, SMALL], quota_bytes=None)
    store.free = 6_049
    with pytest.raises(NotEnoughSpace, match="6050 bytes are missing and the store has 6049 bytes free"):
        await check_room(store, catalogue, REPO, COMMIT, [LARGE, SMALL], quota_bytes=None)
    with pytest.raises(QuotaExceeded, match="10050 bytes do not fit"):
        await check_room(store, catalogue, REPO, COMMIT, [LARGE, SMALL], quota_bytes=10_049)


def test_exactly_as_much_as_there_is_fits() -> None:
    check_free(100, missing_bytes=100)
    check_free(None, missing_bytes=1 << 60)
    check_quota(100, stored_bytes=40, new_bytes=60)
    check_quota(None, stored_bytes=40, new_bytes=1 << 60)
    with pytest.raises(QuotaExceeded, match="61 bytes do not fit: 40 of REGISTRY_QUOTA_BYTES=100 are used"):
        check_quota(100, stored_bytes=40, new_bytes=61)
