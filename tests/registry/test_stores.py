"""Every store keeps the same promises: the folder, MinIO, versitygw, and the fake that other tests use."""

import asyncio
import errno
import fcntl
import os
from pathlib import Path
from urllib.request import urlopen

import pytest
from minio.credentials import StaticProvider
from minio.minioadmin import MinioAdmin
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from msp_registry.stores.folder_places import FolderPlaces
from msp_registry.stores.folder_store import FolderStore
from msp_registry.stores.minio_capacity import usable_free_bytes
from msp_registry.stores.s3_endpoint import http_pool, parse_endpoint
from msp_registry.stores.s3_store import S3Store
from msp_registry.stores.store import (
    PART_BYTES,
    BadKey,
    NoSuchObject,
    ObjectStore,
    StoreFull,
    StoreUnavailable,
    read_small,
)
from support.registry_memory_store import MemoryStore
from support.registry_minio import MinioServer
from support.registry_stores import KINDS, S3_KINDS, keys, new_store, s3, whole
from support.registry_versitygw import VersitygwServer
from support.servers import free_port, run_server

MIB = 1 << 20


@pytest.fixture(params=["memory", *KINDS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    made = MemoryStore() if request.param == "memory" else new_store(request.param, request, tmp_path)
    await made.prepare()
    return made


@pytest.mark.parametrize("data", [b"", b"abc"])
async def test_what_is_put_can_be_got(store: ObjectStore, data: bytes) -> None:
    await store.put("a/b c/ü%2F+.txt", data)
    assert await whole(store, "a/b c/ü%2F+.txt") == data
    assert (await store.stat("a/b c/ü%2F+.txt")).size_bytes == len(data)
    assert await keys(store) == ["a/b c/ü%2F+.txt"]


async def test_the_largest_object_that_is_put_at_once_comes_back_in_chunks(store: ObjectStore) -> None:
    data = os.urandom(PART_BYTES)
    await store.put("large", data)
    assert await whole(store, "large") == data
    assert await whole(store, "large", 7 * MIB + 1, 3 * MIB) == data[7 * MIB + 1 : 10 * MIB + 1]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (3, 0, b""),
        (8, 100, b"89"),
        (10, None, b""),
        (11, 5, b""),
    ],
)
async def test_a_range_is_cut_to_what_there_is(
    store: ObjectStore, offset: int, length: int | None, expected: bytes
) -> None:
    await store.put("digits", b"0123456789")
    assert await whole(store, "digits", offset, length) == expected


async def test_a_range_of_an_empty_object_is_empty(store: ObjectStore) -> None:
    await store.put("empty", b"")
    assert await whole(store, "empty", 0, 5) == b""


async def test_an_absent_object_is_named(store: ObjectStore) -> None:
    await store.put("a/b", b"x")
    for key in ("a/c", "a", "a/b/c"):
        with pytest.raises(NoSuchObject, match=f"no object {key}$"):
            await whole(store, key)
        with pytest.raises(NoSuchObject, match=f"no object {key}$"):
            await store.stat(key)
        with pytest.raises(NoSuchObject):
            await whole(store, key, 3, 0)


async def test_listing_goes_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ("b/2", "a/x/y", "b/10", "ba", "b/1/z"):
        await store.put(key, b"1")
    assert await keys(store) == ["a/x/y", "b/1/z", "b/10", "b/2", "ba"]
    assert await keys(store, "b/") == ["b/1/z", "b/10", "b/2"]
    assert await keys(store, "b/1") == ["b/1/z", "b/10"]
    assert await keys(store, "nothing/here") == []


async def test_a_put_replaces_and_a_delete_removes(store: ObjectStore) -> None:
    await store.put("a/b", b"old and longer")
    await store.put("a/b", b"new")
    assert await whole(store, "a/b") == b"new"
    await store.delete("a/b")
    await store.delete("a/b")
    assert await keys(store) == []
    await store.put("a", b"where a folder was")
    assert await whole(store, "a") == b"where a folder was"


async def test_puts_and_deletes_side_by_side_do_not_disturb_each_other(store: ObjectStore) -> None:
    await asyncio.gather(*(store.put(f"a/{n}", bytes([n])) for n in range(20)))
    await asyncio.gather(*(store.put(f"b/{n}", b"x") if n % 2 else store.delete(f"a/{n}") for n in range(20)))
    assert await keys(store, "a/") == sorted(f"a/{n}" for n in range(1, 20, 2))
    assert await keys(store, "b/") == sorted(f"b/{n}" for n in range(1, 20, 2))


@pytest.mark.parametrize("store", KINDS, indirect=True)
async def test_a_cancelled_put_leaves_the_old_or_the_new_object(store: ObjectStore) -> None:
    await store.put("a", b"old")
    for _ in range(5):
        task = asyncio.create_task(store.put("a", bytes(4 * MIB)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await store.stat("a")).size_bytes in (3, 4 * MIB)
    assert await keys(store) == ["a"]


@pytest.mark.parametrize("store", KINDS, indirect=True)
async def test_a_read_that_is_given_up_leaves_the_store_usable(store: ObjectStore) -> None:
    await store.put("a", bytes(8 * MIB))
    for _ in range(40):  # more often than there are connections or threads to lose at once
        reading = store.get("a")
        await anext(reading)
        await reading.aclose()
        task = asyncio.create_task(whole(store, "a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(await whole(store, "a")) == 8 * MIB


@pytest.mark.parametrize("store", KINDS, indirect=True)
@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/./b",
        "a/",
        "a\0b",
        "a\\b",
        "a\nb",
        "x" * 256,
        "a/" * 600,
    ],
)
async def test_an_unsafe_key_is_refused_by_every_call(store: ObjectStore, key: str) -> None:
    for call in (
        store.put(key, b""),
        whole(store, key),
        store.stat(key),
        store.delete(key),
        store.begin_upload(key, size_bytes=1, part_bytes=PART_BYTES),
        store.put_part(key, "0" * 32, 1, b"x"),
        store.parts(key, "0" * 32),
        store.complete_upload(key, "0" * 32, []),
        store.abort_upload(key, "0" * 32),
    ):
        with pytest.raises(BadKey):
            await call


async def test_a_small_read_refuses_what_is_not_small(store: ObjectStore) -> None:
    await store.put("a", b"12345")
    assert await read_small(store, "a", 5) == b"12345"
    with pytest.raises(Exception, match="larger than the 4 bytes"):
        await read_small(store, "a", 4)


async def test_a_folder_knows_its_free_bytes(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    found = os.statvfs(tmp_path)
    free = await store.free_bytes()
    assert free is not None
    assert abs(free - found.f_bavail * found.f_frsize) < 10 << 30


@pytest.mark.minio
async def test_a_minio_knows_its_free_bytes(minio: MinioServer) -> None:
    free = await s3(minio).free_bytes()
    assert free is not None
    assert free > MIB


@pytest.mark.minio
async def test_a_versitygw_cannot_tell_its_free_bytes(versitygw: VersitygwServer) -> None:
    assert await s3(versitygw).free_bytes() is None


def test_only_drives_with_data_count_as_room() -> None:
    drives = [{"availspace": 100 + n, "pool_index": 0, "disk_index": n} for n in range(4)]
    drives.append({"availspace": 1000, "pool_index": 7, "disk_index": 0})
    assert usable_free_bytes({"Disks": drives, "Backend": {"StandardSCData": [3]}}) == 100 + 101 + 102
    assert usable_free_bytes({"Disks": [], "Backend": {"StandardSCData": [3]}}) is None
    assert usable_free_bytes(b"<html>no MinIO</html>") is None


async def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    store = FolderStore(tmp_path / "store")
    await store.prepare()
    (tmp_path / "store" / "way").symlink_to(outside)
    for call in (
        whole(store, "way/secret"),
        store.delete("way/secret"),
        store.put("way/new", b""),
        store.begin_upload("way/new", size_bytes=1, part_bytes=1),
    ):
        with pytest.raises(BadKey, match="leads out"):
            await call
    assert [p.name for p in outside.iterdir()] == ["secret"]


async def test_what_a_kill_left_half_written_is_cleared_and_never_listed(tmp_path: Path) -> None:
    puts = tmp_path / ".unfinished" / "puts"
    puts.mkdir(parents=True)
    (puts / "of-the-dead").write_bytes(b"half")
    (puts / "of-the-living").write_bytes(b"half")
    of_an_earlier_version = tmp_path / ".unfinished" / "a-process" / "half"
    of_an_earlier_version.parent.mkdir()
    of_an_earlier_version.write_bytes(b"half")
    with (puts / "of-the-living").open("rb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        store = FolderStore(tmp_path)
        assert await keys(store) == []
        await store.prepare()
        assert [p.name for p in puts.iterdir()] == ["of-the-living"]
    assert not of_an_earlier_version.parent.exists()
    with pytest.raises(BadKey):
        await whole(store, ".unfinished/puts/of-the-living")


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FolderStore(tmp_path / "file" / "store")
    with pytest.raises(Exception, match="file/store"):
        await store.prepare()
    with pytest.raises(StoreUnavailable):
        await store.check()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_one_that_fails(tmp_path: Path, number: int) -> None:
    places = FolderPlaces(tmp_path)
    assert isinstance(places.translated(OSError(number, os.strerror(number))), StoreFull)
    assert isinstance(places.translated(OSError(errno.EIO, "broken")), StoreUnavailable)


@pytest.mark.minio
async def test_a_full_account_is_told_from_a_server_that_fails(minio: MinioServer) -> None:
    store = s3(minio, "small")
    await store.prepare()
    admin = MinioAdmin(
        endpoint=minio.endpoint,
        credentials=StaticProvider(minio.root_user, minio.root_password),
        secure=False,
        http_client=http_pool(),
    )
    admin.bucket_quota_set("small", 6 * MIB)
    with pytest.raises(StoreFull, match="QuotaExceeded"):
        await store.put("a", bytes(7 * MIB))
    upload_id = await store.begin_upload("b", size_bytes=8 * MIB, part_bytes=7 * MIB)
    with pytest.raises(StoreFull):
        await store.put_part("b", upload_id, 1, bytes(7 * MIB))


@pytest.mark.parametrize("store", ["folder", S3_KINDS[2]], indirect=True)
async def test_an_object_in_the_way_is_no_outage(store: ObjectStore) -> None:
    await store.put("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(Exception, match=r"folder|directory|file") as refused:
            await store.put(key, b"x")
        assert not isinstance(refused.value, StoreUnavailable)


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    store = s3(MinioServer(f"127.0.0.1:{free_port()}"))
    for call in (store.check(), store.put("a", b"x"), store.free_bytes(), whole(store, "a")):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await call


@pytest.mark.parametrize("kind", S3_KINDS[::2])
async def test_a_presigned_url_gives_the_bytes_without_credentials(
    request: pytest.FixtureRequest, kind: str
) -> None:
    store = s3(request.getfixturevalue(kind), "signed")
    await store.prepare()
    await store.put("org/a b", b"hello")
    url = await store.presigned_url("org/a b", 60)
    assert url is not None

    def fetch() -> bytes:
        with urlopen(url, timeout=10) as answer:
            return bytes(answer.read())

    assert await asyncio.to_thread(fetch) == b"hello"


@pytest.mark.minio
async def test_a_prefix_keeps_two_stores_of_one_bucket_apart(minio: MinioServer) -> None:
    ours, theirs = s3(minio, "shared", "ours"), s3(minio, "shared", "/theirs/")
    await ours.prepare()
    await ours.put("a", b"1")
    await theirs.put("b", b"2")
    assert (await keys(ours), await keys(theirs)) == (["a"], ["b"])
    assert await keys(s3(minio, "shared")) == ["ours/a", "theirs/b"]


@pytest.mark.parametrize("kind", S3_KINDS[::2])
async def test_wrong_credentials_are_told_from_a_server_that_is_away(
    request: pytest.FixtureRequest, kind: str
) -> None:
    store = S3Store(
        parse_endpoint(request.getfixturevalue(kind).endpoint),
        access_key="nobody",
        secret_key="x" * 12,
        bucket="models",
        region="us-east-1",
    )
    with pytest.raises(StoreUnavailable, match=r"InvalidAccessKeyId|AccessDenied"):
        await whole(store, "a")


@pytest.mark.parametrize(
    ("text", "host", "secure"),
    [
        ("minio:9000", "minio:9000", False),
        ("http://minio:9000/", "minio:9000", False),
        ("https://s3.example.org", "s3.example.org", True),
    ],
)
def test_an_endpoint_comes_in_three_forms(text: str, host: str, secure: bool) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.host, endpoint.secure) == (host, secure)


@pytest.mark.parametrize(
    "text", ["", "ftp://x", "http://", "minio:port", "http://minio:9000/path", "http://a@b"]
)
def test_an_endpoint_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        parse_endpoint(text)


async def test_a_server_that_asks_to_wait_for_a_minute_is_asked_again_at_once() -> None:
    """MinIO does while it starts; who waits here is a request, or a job that has its own patience."""
    answers = [503, 200]

    async def answer(request: Request) -> Response:
        return Response(status_code=answers.pop(0), headers={"Retry-After": "60"})

    with run_server(Starlette(routes=[Route("/", answer)])) as url:
        asking = asyncio.to_thread(http_pool().request, "GET", f"{url}/")
        assert (await asyncio.wait_for(asking, 20)).status == 200
    assert answers == []
