"""Uploads in parts: they outlive the process that began them, and give the object whole or not at all."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from msp_registry.stores.folder_places import FolderPlaces
from msp_registry.stores.folder_store import FolderStore
from msp_registry.stores.folder_uploads import FolderUploads
from msp_registry.stores.s3_store import S3Store
from msp_registry.stores.store import (
    NoSuchUpload,
    ObjectStore,
    Part,
    PendingUpload,
    StoreError,
    StoreUnavailable,
)
from support.registry_minio import MinioServer, run_minio
from support.registry_stores import KINDS, S3_KINDS, keys, new_store, s3, whole

MIB = 1 << 20
PART = 5 * MIB
"""The least that S3 takes for a part that is not the last."""
SIZE = 2 * PART + MIB
DATA = os.urandom(SIZE)
KEY = "org/m/c/model b.bin"


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    made = new_store(request.param, request, tmp_path)
    await made.prepare()
    return made


def piece(number: int) -> bytes:
    return DATA[(number - 1) * PART : number * PART]


async def begin(store: ObjectStore, key: str = KEY) -> str:
    return await store.begin_upload(key, size_bytes=SIZE, part_bytes=PART)


async def put(store: ObjectStore, upload_id: str, *numbers: int) -> list[Part]:
    return list(await asyncio.gather(*(store.put_part(KEY, upload_id, n, piece(n)) for n in numbers)))


async def pending(store: ObjectStore, prefix: str = "") -> list[PendingUpload]:
    return [upload async for upload in store.uploads(prefix)]


def as_another_process(store: ObjectStore) -> ObjectStore:
    """A second store over the same folder or bucket."""
    if isinstance(store, FolderStore):
        return FolderStore(store._root)
    assert isinstance(store, S3Store)
    return S3Store(
        store._endpoint,
        access_key=store._account.access_key,
        secret_key=store._account.secret_key,
        bucket=store._bucket,
        region="us-east-1",
        prefix=store._prefix,
    )


async def test_parts_in_any_order_become_the_object(store: ObjectStore) -> None:
    upload_id = await begin(store)
    assert await store.parts(KEY, upload_id) == []
    parts = sorted(await put(store, upload_id, 3, 1, 2), key=lambda p: p.number)
    assert [(p.number, p.size_bytes) for p in parts] == [(1, PART), (2, PART), (3, MIB)]
    assert await store.parts(KEY, upload_id) == parts
    assert await keys(store) == []
    await store.complete_upload(KEY, upload_id, parts)
    assert await whole(store, KEY) == DATA
    assert await keys(store) == [KEY]
    assert await pending(store) == []


async def test_another_process_carries_on_where_the_first_was(store: ObjectStore) -> None:
    upload_id = await begin(store)
    await put(store, upload_id, 2)
    second = as_another_process(store)
    await second.prepare()
    assert [p.number for p in await second.parts(KEY, upload_id)] == [2]
    await put(second, upload_id, 1, 3)
    await second.complete_upload(KEY, upload_id, await second.parts(KEY, upload_id))
    assert await whole(store, KEY) == DATA


async def test_a_part_put_again_replaces_the_first(store: ObjectStore) -> None:
    upload_id = await begin(store)
    (wrong,) = [await store.put_part(KEY, upload_id, 1, bytes(PART))]
    await put(store, upload_id, 1, 2, 3)
    parts = await store.parts(KEY, upload_id)
    assert len(parts) == 3
    with pytest.raises(StoreError) as refused:
        await store.complete_upload(KEY, upload_id, [wrong, *parts[1:]])
    assert not isinstance(refused.value, StoreUnavailable)
    await store.complete_upload(KEY, upload_id, parts)
    assert await whole(store, KEY) == DATA


async def test_the_object_of_before_stays_until_the_upload_is_completed(store: ObjectStore) -> None:
    await store.put(KEY, b"old")
    upload_id = await begin(store)
    parts = await put(store, upload_id, 1, 2, 3)
    assert await whole(store, KEY) == b"old"
    await store.complete_upload(KEY, upload_id, parts)
    assert (await store.stat(KEY)).size_bytes == SIZE


async def test_an_aborted_upload_is_gone(store: ObjectStore) -> None:
    await store.put(KEY, b"old")
    upload_id = await begin(store)
    parts = await put(store, upload_id, 1, 2, 3)
    await store.abort_upload(KEY, upload_id)
    await store.abort_upload(KEY, upload_id)
    for call in (
        store.parts(KEY, upload_id),
        store.put_part(KEY, upload_id, 1, piece(1)),
        store.complete_upload(KEY, upload_id, parts),
    ):
        with pytest.raises(NoSuchUpload):
            await call
    assert await pending(store) == []
    assert await whole(store, KEY) == b"old"


@pytest.mark.parametrize("wrong", ["", ".", "..", "/", "../x", "nonsense", "0" * 32, "x" * 2000, "a b", "ü"])
async def test_a_wrong_id_is_no_upload_and_harms_none(store: ObjectStore, wrong: str) -> None:
    upload_id = await begin(store)
    parts = await put(store, upload_id, 3)
    for call in (
        store.parts(KEY, wrong),
        store.put_part(KEY, wrong, 3, piece(3)),
        store.complete_upload(KEY, wrong, parts),
    ):
        with pytest.raises(NoSuchUpload):
            await call
    await store.abort_upload(KEY, wrong)
    assert await store.parts(KEY, upload_id) == parts


async def test_an_id_belongs_to_its_key(store: ObjectStore) -> None:
    upload_id = await begin(store)
    await put(store, upload_id, 3)
    with pytest.raises(NoSuchUpload):
        await store.parts("org/m/c/other.bin", upload_id)
    await store.abort_upload("org/m/c/other.bin", upload_id)
    assert len(await store.parts(KEY, upload_id)) == 1


async def test_unfinished_uploads_are_found_by_prefix(store: ObjectStore) -> None:
    ours = [await begin(store), await begin(store)]
    other = await begin(store, "org/other/file")
    assert {(u.key, u.upload_id) for u in await pending(store, "org/m/")} == {(KEY, u) for u in ours}
    assert {u.upload_id for u in await pending(store)} == {*ours, other}
    assert {u.upload_id for u in await pending(store, KEY)} == set(ours)
    assert await pending(store, "elsewhere/") == []


async def test_a_cancelled_part_is_stored_whole_or_not_at_all(store: ObjectStore) -> None:
    upload_id = await begin(store)
    for _ in range(3):
        task = asyncio.create_task(store.put_part(KEY, upload_id, 1, piece(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [p.number for p in await store.parts(KEY, upload_id)] in ([], [1])
    parts = await put(store, upload_id, 1, 2, 3)
    await store.complete_upload(KEY, upload_id, parts)
    assert await whole(store, KEY) == DATA


@pytest.mark.parametrize("store", S3_KINDS, indirect=True)
async def test_completing_again_after_a_lost_answer_is_done(store: ObjectStore) -> None:
    upload_id = await begin(store)
    parts = await put(store, upload_id, 1, 2, 3)
    await store.complete_upload(KEY, upload_id, parts)
    await store.complete_upload(KEY, upload_id, parts)
    assert await whole(store, KEY) == DATA


@pytest.mark.parametrize("store", S3_KINDS, indirect=True)
async def test_an_older_object_of_the_same_size_does_not_pass_for_a_completed_upload(
    store: ObjectStore,
) -> None:
    older = await begin(store)
    old = [await store.put_part(KEY, older, n, bytes(len(piece(n)))) for n in (1, 2, 3)]
    await store.complete_upload(KEY, older, old)
    upload_id = await begin(store)
    parts = await put(store, upload_id, 1, 2, 3)
    await store.abort_upload(KEY, upload_id)  # as the server may do on its own after a day
    with pytest.raises(NoSuchUpload):
        await store.complete_upload(KEY, upload_id, parts)


@pytest.mark.minio
async def test_an_upload_goes_on_after_minio_has_been_started_anew(tmp_path: Path) -> None:
    with run_minio(tmp_path) as server:
        first = s3(server)
        await first.prepare()
        upload_id = await begin(first)
        await put(first, upload_id, 1, 2)
    with run_minio(tmp_path) as server:
        second = s3(server)
        assert [p.number for p in await second.parts(KEY, upload_id)] == [1, 2]
        assert [u.upload_id for u in await pending(second, KEY)] == [upload_id]
        await put(second, upload_id, 3)
        await second.complete_upload(KEY, upload_id, await second.parts(KEY, upload_id))
        assert await whole(second, KEY) == DATA


@pytest.mark.minio
async def test_more_parts_than_one_page_are_listed_by_number(minio: MinioServer) -> None:
    store = s3(minio, "many")
    await store.prepare()
    upload_id = await store.begin_upload(KEY, size_bytes=1003, part_bytes=1)
    for start in range(1, 1004, 100):
        numbers = range(start, min(start + 100, 1004))
        await asyncio.gather(*(store.put_part(KEY, upload_id, n, b"x") for n in numbers))
    assert [p.number for p in await store.parts(KEY, upload_id)] == list(range(1, 1004))


# What only the folder store can be held to, because its files can be looked at.


@pytest.fixture
def uploads(tmp_path: Path) -> FolderUploads:
    return FolderUploads(FolderPlaces(tmp_path))


def folder_of(tmp_path: Path, upload_id: str) -> Path:
    return tmp_path / ".unfinished" / "uploads" / upload_id


def test_a_part_that_a_crash_has_torn_does_not_count(tmp_path: Path, uploads: FolderUploads) -> None:
    upload_id = uploads.begin("k", 25, 10)
    uploads.put_part("k", upload_id, 1, b"1" * 10)
    folder = folder_of(tmp_path, upload_id)
    with (folder / "data").open("r+b") as data:  # a write without its slot
        data.seek(10)
        data.write(b"2" * 7)
    assert [p.number for p in uploads.parts("k", upload_id)] == [1]
    with (folder / "parts").open("r+b") as slots:  # a slot that holds something else than its own
        slots.seek(16)
        slots.write(b"\x02\0\0\0\x07")
        slots.seek(32)
        slots.write(b"\xff" * 16)
    assert [p.number for p in uploads.parts("k", upload_id)] == [1]
    parts = [uploads.put_part("k", upload_id, n, c * s) for n, c, s in [(2, b"2", 10), (3, b"3", 5)]]
    uploads.complete("k", upload_id, [*uploads.parts("k", upload_id)[:1], *parts])
    assert (tmp_path / "k").read_bytes() == b"1" * 10 + b"2" * 10 + b"3" * 5


def test_a_part_that_is_being_replaced_does_not_count(tmp_path: Path, uploads: FolderUploads) -> None:
    upload_id = uploads.begin("k", 20, 10)
    uploads.put_part("k", upload_id, 1, b"1" * 10)
    data = folder_of(tmp_path, upload_id) / "data"
    data.rename(data.with_name("aside"))
    data.mkdir()  # so that writing the bytes fails, after the slot was emptied
    with pytest.raises(OSError, match="directory"):
        uploads.put_part("k", upload_id, 1, b"x" * 10)
    data.rmdir()
    data.with_name("aside").rename(data)
    assert uploads.parts("k", upload_id) == []


@pytest.mark.parametrize(("number", "size"), [(0, 10), (4, 10), (1, 9), (1, 11), (3, 10)])
def test_a_part_of_the_wrong_length_or_number_is_refused(
    uploads: FolderUploads, number: int, size: int
) -> None:
    upload_id = uploads.begin("k", 25, 10)
    with pytest.raises(StoreError, match="does not fit"):
        uploads.put_part("k", upload_id, number, bytes(size))
    assert uploads.parts("k", upload_id) == []


def test_an_upload_with_a_hole_is_not_completed(tmp_path: Path, uploads: FolderUploads) -> None:
    upload_id = uploads.begin("k", 25, 10)
    parts = [uploads.put_part("k", upload_id, n, bytes(s)) for n, s in [(1, 10), (3, 5)]]
    for given in (parts, [*parts, replace(parts[0], number=2)], []):
        with pytest.raises(StoreError, match="cannot be completed"):
            uploads.complete("k", upload_id, given)
    assert not (tmp_path / "k").exists()


def test_an_upload_takes_no_room_before_its_parts_come(tmp_path: Path, uploads: FolderUploads) -> None:
    upload_id = uploads.begin("k", 100 << 30, 16 << 20)
    assert (folder_of(tmp_path, upload_id) / "data").stat().st_blocks == 0


_WRITER = """
import sys
from itertools import count
from pathlib import Path
from msp_registry.stores.folder_places import FolderPlaces
from msp_registry.stores.folder_uploads import FolderUploads

uploads = FolderUploads(FolderPlaces(Path(sys.argv[1])))
upload_id = uploads.begin("k", 64 << 20, 1 << 20)
print(upload_id, flush=True)
for n in count():
    number = n * 7 % 64 + 1
    uploads.put_part("k", upload_id, number, bytes([number]) * (1 << 20))
    print(number, flush=True)
"""


@pytest.mark.parametrize("written", [1, 40, 90])
def test_after_a_sigkill_every_part_that_counts_is_whole(
    tmp_path: Path, uploads: FolderUploads, written: int
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        upload_id = writer.stdout.readline().strip()
        told = {int(writer.stdout.readline()) for _ in range(written)}
        writer.kill()
    parts = uploads.parts("k", upload_id)
    # The one that was being put again may be missing; one more may have been put since.
    assert len(told - {p.number for p in parts}) <= 1
    data = (folder_of(tmp_path, upload_id) / "data").read_bytes()
    for part in parts:
        start = (part.number - 1) << 20
        assert data[start : start + (1 << 20)] == bytes([part.number]) * (1 << 20)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"key": "k"}'])
async def test_an_upload_whose_note_is_damaged_is_cleared_and_stops_nothing_else(
    note: bytes, tmp_path: Path, uploads: FolderUploads
) -> None:
    kept, damaged = uploads.begin("kept", 10, 10), uploads.begin("k", 10, 10)
    (folder_of(tmp_path, damaged) / "upload.json").write_bytes(note)
    store = FolderStore(tmp_path)
    with pytest.raises(NoSuchUpload):
        await store.parts("k", damaged)
    await store.prepare()
    assert [p.name for p in folder_of(tmp_path, kept).parent.iterdir()] == [kept]


async def test_what_a_kill_left_of_ended_uploads_is_cleared_and_the_rest_kept(
    tmp_path: Path, uploads: FolderUploads
) -> None:
    kept, renamed = uploads.begin("kept", 10, 10), uploads.begin("renamed", 10, 10)
    (folder_of(tmp_path, renamed) / "data").rename(tmp_path / "renamed")
    folder_of(tmp_path, f"making-{'0' * 32}").mkdir()
    folder_of(tmp_path, f"gone-{'0' * 32}").mkdir()
    store = FolderStore(tmp_path)
    with pytest.raises(NoSuchUpload):
        await store.parts("renamed", renamed)
    await store.prepare()
    assert [p.name for p in folder_of(tmp_path, kept).parent.iterdir()] == [kept]
    assert await keys(store) == ["renamed"]
    assert [u.key for u in await pending(store)] == ["kept"]
