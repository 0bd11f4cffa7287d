"""Every store keeps the same promises: the folder, a real MinIO, and the fake that other tests use."""

import asyncio
import tracemalloc
import uuid
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from msp_registry.folder_store import FolderStore
from msp_registry.s3_endpoint import parse_endpoint
from msp_registry.s3_store import S3Store
from msp_registry.store import (
    BadKey,
    NoSuchObject,
    ObjectStore,
    StoreUnavailable,
    read_small,
    write_small,
)
from support.registry_memory_store import MemoryStore
from support.registry_minio import MinioServer, run_minio
from support.servers import free_port

MIB = 1 << 20


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with run_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


def s3(server: MinioServer, bucket: str = "models", prefix: str = "") -> S3Store:
    return S3Store(
        parse_endpoint(server.endpoint),
        access_key=server.root_user,
        secret_key=server.root_password,
        bucket=bucket,
        region="us-east-1",
        prefix=prefix,
    )


REAL = [
    "folder",
    pytest.param("s3", marks=pytest.mark.minio),
    pytest.param("s3-prefix", marks=pytest.mark.minio),
]


@pytest.fixture(params=["memory", *REAL])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    made: ObjectStore
    if request.param == "folder":
        made = FolderStore(tmp_path / "store")
    elif request.param == "memory":
        made = MemoryStore()
    else:
        bucket = f"b-{uuid.uuid4().hex}"
        prefix = "some/where" if request.param == "s3-prefix" else ""
        made = s3(request.getfixturevalue("minio"), bucket, prefix)
    await made.prepare()
    return made


async def stream(*chunks: bytes, then: BaseException | None = None) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk
    if then is not None:
        raise then


async def whole(store: ObjectStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.get(key, offset, length)])


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [stat.key async for stat in store.list(prefix)]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("chunks", [[], [b""], [b"abc"], [b"ab", b"", b"c"]])
async def test_what_is_put_can_be_got(store: ObjectStore, chunks: list[bytes], known: bool) -> None:
    data = b"".join(chunks)
    await store.put("a/b c/ü%2F+.txt", stream(*chunks), size_bytes=len(data) if known else None)
    assert await whole(store, "a/b c/ü%2F+.txt") == data
    assert (await store.stat("a/b c/ü%2F+.txt")).size_bytes == len(data)
    assert await keys(store) == ["a/b c/ü%2F+.txt"]


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
    await write_small(store, "digits", b"0123456789")
    assert await whole(store, "digits", offset, length) == expected


async def test_an_absent_object_is_named(store: ObjectStore) -> None:
    await write_small(store, "a/b", b"x")
    for key in ("a/c", "a", "a/b/c"):
        with pytest.raises(NoSuchObject, match=f"no object {key}"):
            await whole(store, key)
        with pytest.raises(NoSuchObject):
            await store.stat(key)


async def test_listing_goes_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ("b/2", "a/x/y", "b/10", "ba", "b/1/z"):
        await write_small(store, key, b"1")
    assert await keys(store) == ["a/x/y", "b/1/z", "b/10", "b/2", "ba"]
    assert await keys(store, "b/") == ["b/1/z", "b/10", "b/2"]
    assert await keys(store, "b/1") == ["b/1/z", "b/10"]
    assert await keys(store, "nothing/here") == []


async def test_a_put_replaces_and_a_delete_removes(store: ObjectStore) -> None:
    await write_small(store, "a/b", b"old and longer")
    await write_small(store, "a/b", b"new")
    assert await whole(store, "a/b") == b"new"
    await store.delete("a/b")
    await store.delete("a/b")
    assert await keys(store) == []
    await write_small(store, "a", b"where a folder was")
    assert await whole(store, "a") == b"where a folder was"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [10, 17 * MIB])
async def test_a_stream_that_fails_at_its_very_end_leaves_what_was_there(
    store: ObjectStore, size: int, known: bool
) -> None:
    await write_small(store, "a", b"old")
    data = stream(bytes(size), then=ZeroDivisionError("wrong bytes"))
    with pytest.raises(ZeroDivisionError, match="wrong bytes"):
        await store.put("a", data, size_bytes=size if known else None)
    assert await whole(store, "a") == b"old"
    assert await keys(store) == ["a"]


async def test_a_cancelled_put_leaves_nothing(store: ObjectStore) -> None:
    under_way = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield b"x" * 1000
        under_way.set()
        await asyncio.Event().wait()
        yield b""

    task = asyncio.create_task(store.put("a", endless(), size_bytes=5000))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(store) == []


@pytest.mark.parametrize("store", REAL, indirect=True)
async def test_a_long_object_arrives_whole_and_in_bounded_memory(store: ObjectStore) -> None:
    piece = bytes(range(256)) * 1024

    async def long() -> AsyncGenerator[bytes, None]:
        for _ in range(400):
            yield piece

    tracemalloc.start()
    await store.put("long", long(), size_bytes=400 * len(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 70 * MIB
    assert (await store.stat("long")).size_bytes == 400 * len(piece)
    assert await whole(store, "long", 60 * MIB + 1, 300) == (piece * 2)[1:301]


@pytest.mark.parametrize("store", REAL, indirect=True)
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
    for call in (write_small(store, key, b""), whole(store, key), store.stat(key), store.delete(key)):
        with pytest.raises(BadKey):
            await call


async def test_a_small_read_refuses_what_is_not_small(store: ObjectStore) -> None:
    await write_small(store, "a", b"12345")
    assert await read_small(store, "a", 5) == b"12345"
    with pytest.raises(Exception, match="larger than the 4 bytes"):
        await read_small(store, "a", 4)


async def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    store = FolderStore(tmp_path / "store")
    await store.prepare()
    (tmp_path / "store" / "way").symlink_to(outside)
    for call in (whole(store, "way/secret"), store.delete("way/secret"), write_small(store, "way/new", b"")):
        with pytest.raises(BadKey, match="leads out"):
            await call
    assert [p.name for p in outside.iterdir()] == ["secret"]


async def test_what_a_kill_left_half_written_is_cleared_and_never_listed(tmp_path: Path) -> None:
    left = tmp_path / ".unfinished" / "earlier" / "half"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    store = FolderStore(tmp_path)
    assert await keys(store) == []
    await store.prepare()
    assert not left.exists()
    with pytest.raises(BadKey):
        await whole(store, ".unfinished/earlier/half")


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FolderStore(tmp_path / "file" / "store")
    with pytest.raises(StoreUnavailable, match="file/store"):
        await store.prepare()
    with pytest.raises(StoreUnavailable):
        await store.check()


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    store = s3(MinioServer(f"127.0.0.1:{free_port()}"))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.check()
    with pytest.raises(StoreUnavailable):
        await store.put("a", stream(b"x" * MIB, b"y"), size_bytes=MIB + 1)


@pytest.mark.minio
async def test_a_presigned_url_gives_the_bytes_without_credentials(minio: MinioServer) -> None:
    store = s3(minio, "signed")
    await store.prepare()
    await write_small(store, "org/a b", b"hello")
    url = await store.presigned_url("org/a b", 60)
    assert url is not None

    def fetch() -> bytes:
        with urlopen(url) as answer:
            body: bytes = answer.read()
            return body

    assert await asyncio.to_thread(fetch) == b"hello"


@pytest.mark.minio
async def test_wrong_credentials_are_told_from_a_server_that_is_away(minio: MinioServer) -> None:
    store = S3Store(
        parse_endpoint(minio.endpoint),
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
