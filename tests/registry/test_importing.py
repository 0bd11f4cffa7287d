"""Folders, tars and S3 prefixes: the same files are the same commit; what changes meanwhile is refused."""

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
from minio import Minio

from msp_common.contracts.jobs import ImportRequest, JobState
from msp_registry.failures import (
    BadArchive,
    BadFolder,
    BadSnapshot,
    NotEnoughSpace,
    QuotaExceeded,
    SourceUnreachable,
)
from msp_registry.imports.local_folder import allowed_folder
from msp_registry.imports.s3_prefix import OtherS3
from msp_registry.stores.s3_endpoint import S3Endpoint
from msp_registry.stores.store import ObjectStat
from support.registry_files import safetensors, tiny_model, write_folder
from support.registry_imports import Importing, tar_of
from support.registry_memory_store import MemoryStore
from support.registry_minio import MinioServer
from support.registry_progress import ToldProgress
from support.servers import free_port

BIG = {**tiny_model(5000), "more/big.bin": os.urandom(50_000)}
"""Several parts of 4096 bytes."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny", tiny_model())


async def test_the_same_files_have_the_same_commit_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    first = await importing.take(folder)
    before = list(importing.store.puts)
    assert await importing.take(folder) == first
    copy = write_folder(tmp_path / "copy", dict(reversed(tiny_model().items())))
    assert await importing.take(copy) == first
    (tmp_path / "tiny.tar").write_bytes(tar_of(tiny_model()))
    assert await importing.take(tmp_path / "tiny.tar") == first
    assert importing.store.puts == before
    assert importing.store.puts[-2:] == [
        f"org/tiny/{first}/.registry/manifest.json",
        "org/tiny/.registry/refs/main",
    ]


async def test_another_byte_is_another_commit_and_moves_the_ref(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    first = await importing.take(folder)
    (folder / "config.json").write_bytes(b'{"model_type": "tinier"}')
    second = await importing.take(folder)
    assert second != first
    assert (await importing.catalogue.find("org/tiny")).manifest.commit == second
    assert (await importing.catalogue.find("org/tiny", first)).manifest.commit == first


async def test_a_second_ref_of_the_same_folder_costs_one_write(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    commit = await importing.take(folder)
    importing.store.puts.clear()
    await importing.take(folder, "prod")
    assert importing.store.puts == ["org/tiny/.registry/refs/prod"]
    assert (await importing.catalogue.find("org/tiny")).refs == {"main": commit, "prod": commit}


async def test_an_import_that_broke_off_writes_only_what_is_missing(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    commit = await importing.take(folder)
    for key in [*importing.store.visible(), f"org/tiny/{commit}/config.json"]:
        del importing.store.objects[key]
    importing.store.puts.clear()
    await Importing([tmp_path], store=importing.store).take(folder)
    assert importing.store.puts[0] == f"org/tiny/{commit}/config.json"
    assert len(importing.store.puts) == 3


async def test_the_stages_and_the_hashing_are_told(folder: Path, tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []

    class Listening(ToldProgress):
        def moved(self, path: str, n_bytes: int) -> None:
            heard.append((path, n_bytes))
            super().moved(path, n_bytes)

    progress = Listening()
    await Importing([tmp_path]).importer.take("org/tiny", ImportRequest(source=str(folder)), progress)
    assert progress.states == [JobState.RESOLVING, JobState.DOWNLOADING, JobState.PUBLISHING]
    size = len(safetensors())
    assert [n for path, n in heard if path == "model.safetensors"] == [size, -size, size]
    assert sorted(progress.done) == sorted(tiny_model())


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
async def test_tars_as_tools_make_them_are_read_by_offset(folder: Path, tmp_path: Path, form: int) -> None:
    files = {**BIG, f"{'deep/' * 15}{'long' * 15}.txt": b"x", "ünïcode.txt": b"y"}
    expected = await Importing([tmp_path]).take(write_folder(tmp_path / "big", files))
    packed = tmp_path / "big.tar"
    with tarfile.open(packed, "w", format=form) as tar:
        tar.add(tmp_path / "big", arcname=".")
    importing = Importing([tmp_path])
    commit = await importing.take(packed)
    assert commit == expected
    for path, data in files.items():
        assert importing.store.objects[f"org/tiny/{commit}/{path}"] == data
    assert (await importing.catalogue.find("org/tiny")).manifest.source == "tar"


@pytest.mark.parametrize(("mode", "remedy"), [("w:gz", "gunzip"), ("w:bz2", "bunzip2"), ("w:xz", "unxz")])
async def test_a_compressed_tar_is_refused_with_the_remedy(
    folder: Path, tmp_path: Path, mode: str, remedy: str
) -> None:
    packed = tmp_path / "tiny.tar"
    with tarfile.open(packed, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, arcname=".")
    with pytest.raises(BadArchive, match=remedy):
        await Importing([tmp_path]).take(packed)


async def test_what_tools_leave_behind_is_not_part_of_the_model(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    commit = await importing.take(folder)
    left = {".git/HEAD": b"x", ".cache/huggingface/x.metadata": b"x", "__pycache__/a.pyc": b"x"}
    write_folder(folder, left)
    assert await importing.take(folder) == commit
    (tmp_path / "tiny.tar").write_bytes(tar_of(tiny_model() | left))
    assert await importing.take(tmp_path / "tiny.tar") == commit


async def test_a_link_inside_the_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    (folder / "copy.json").symlink_to("config.json")
    commit = await importing.take(folder)
    assert importing.store.objects[f"org/tiny/{commit}/copy.json"] == b'{"model_type": "tiny"}'


@pytest.mark.parametrize("kind", ["fifo", "socket"])
async def test_what_is_no_file_is_refused_without_being_opened(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "fifo":
        os.mkfifo(folder / "odd")
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(folder / "odd"))
    with pytest.raises(BadFolder, match="odd is no regular file"):
        await Importing([tmp_path]).take(folder)


async def test_an_empty_or_missing_place_is_refused(tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFolder, match="has no files"):
        await importing.take(tmp_path / "empty")
    with pytest.raises(BadFolder, match="is no folder and no tar"):
        await importing.take(tmp_path / "missing")
    (tmp_path / "empty.tar").write_bytes(bytes(1024))
    with pytest.raises(BadArchive, match="has no files"):
        await importing.take(tmp_path / "empty.tar")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" * 500)
    with pytest.raises(BadArchive, match="damaged"):
        await importing.take(tmp_path / "model.gguf")


async def test_a_folder_one_level_too_high_is_refused_with_the_right_one(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadFolder, match="are in the folder 'tiny'; import that folder itself"):
        await Importing([tmp_path]).take(tmp_path)


async def test_a_broken_model_is_refused_before_anything_is_stored(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(cut=1))
    importing = Importing([tmp_path])
    with pytest.raises(BadSnapshot, match=r"model\.safetensors is not a whole"):
        await importing.take(folder)
    assert importing.store.objects == {}


@pytest.mark.parametrize("packed", [False, True])
async def test_a_source_that_changes_meanwhile_is_not_published(
    folder: Path, tmp_path: Path, packed: bool
) -> None:
    source = tmp_path / "tiny.tar" if packed else folder
    changing = source if packed else folder / "model.safetensors"
    if packed:
        source.write_bytes(tar_of(tiny_model()))

    class Meddling(MemoryStore):
        async def stat(self, key: str) -> ObjectStat:
            data = changing.read_bytes()
            changing.write_bytes(data[:-1] + b"!" if not packed else data.replace(b"tiny", b"evil"))
            os.utime(changing, ns=(1, 1))
            return await super().stat(key)

    importing = Importing([tmp_path], store=Meddling())
    with pytest.raises(
        BadArchive if packed else BadFolder, match=f"{changing} changed while it was imported"
    ):
        await importing.take(source)
    assert importing.store.visible() == set()


async def test_a_folder_without_room_is_refused(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path], quota_bytes=100)
    with pytest.raises(QuotaExceeded, match="REGISTRY_QUOTA_BYTES=100"):
        await importing.take(folder)
    importing = Importing([tmp_path])
    importing.store.free = 10
    with pytest.raises(NotEnoughSpace, match="10 bytes free"):
        await importing.take(folder)
    assert importing.store.objects == {}


async def test_an_export_keeps_its_commit_and_its_manifest(tmp_path: Path) -> None:
    exporter = Importing([tmp_path])
    commit = await exporter.take(write_folder(tmp_path / "big", BIG))
    exported = tmp_path / "exported"
    with tarfile.open(fileobj=io.BytesIO(await exporter.export())) as tar:
        tar.extractall(exported, filter="data")
    importing = Importing([tmp_path])
    assert await importing.take(exported) == commit
    (tmp_path / "exported.tar").write_bytes(await exporter.export())
    other = Importing([tmp_path])
    assert await other.take(exported.with_suffix(".tar"), "prod", "team/renamed") == commit
    assert (await importing.catalogue.find("org/tiny")).manifest == (
        await exporter.catalogue.find("org/tiny")
    ).manifest
    renamed = await other.catalogue.find("team/renamed", "prod")
    assert (renamed.manifest.revision, renamed.manifest.repo_id) == ("main", "team/renamed")


async def test_an_import_repairs_what_is_quarantined(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    commit = await importing.take(folder)
    key = f"org/tiny/{commit}/model.safetensors"
    importing.store.objects[key] = b"!" + importing.store.objects[key][1:]
    await importing.quarantine.put("org/tiny", commit, {"model.safetensors": "sha256", "gone.txt": "?"})
    await importing.take(folder)
    assert importing.store.objects[key] == safetensors()
    assert await importing.quarantine.of("org/tiny", commit) == {"gone.txt": "?"}


async def test_places_that_may_not_be_imported_from_are_refused(folder: Path, tmp_path: Path) -> None:
    importing = Importing([tmp_path / "tiny"])
    for source in (str(tmp_path), f"{folder}/../outside", "/etc", "relative", "/proc/self/cwd", ""):
        with pytest.raises(BadFolder, match=r"is below none of|is no absolute path"):
            await importing.take(source)
    with pytest.raises(BadFolder, match="REGISTRY_IMPORT_S3_ENDPOINT"):
        await importing.take("s3://bucket/prefix")


def test_a_root_itself_may_be_imported(tmp_path: Path) -> None:
    assert allowed_folder(str(tmp_path), [tmp_path]) == tmp_path.resolve()


@pytest.fixture
def bucket(minio: MinioServer) -> Minio:
    client = Minio(minio.endpoint, minio.root_user, minio.root_password, secure=False, region="us-east-1")
    if not client.bucket_exists("other"):
        client.make_bucket("other")
    return client


def _other(minio: MinioServer) -> OtherS3:
    return OtherS3(
        S3Endpoint(minio.endpoint, secure=False),
        access_key=minio.root_user,
        secret_key=minio.root_password,
        region="us-east-1",
    )


def _upload(client: Minio, prefix: str, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        client.put_object("other", f"{prefix}{path}", io.BytesIO(data), len(data))


async def test_a_prefix_of_another_server_is_the_same_commit_as_the_folder(
    minio: MinioServer, bucket: Minio, tmp_path: Path
) -> None:
    _upload(bucket, "models/big/", BIG)
    _upload(bucket, "models/bigger/", {"no.txt": b"part of it"})
    folder = write_folder(tmp_path / "big", BIG)
    importing = Importing([tmp_path], s3=_other(minio))
    commit = await importing.take("s3://other/models/big")
    assert (await importing.catalogue.find("org/tiny")).manifest.source == "s3://other/models/big"
    for path, data in BIG.items():
        assert importing.store.objects[f"org/tiny/{commit}/{path}"] == data
    assert await Importing([tmp_path]).take(folder) == commit


async def test_an_export_that_lies_in_a_bucket_keeps_its_commit(
    minio: MinioServer, bucket: Minio, tmp_path: Path
) -> None:
    exporter = Importing([tmp_path])
    commit = await exporter.take(write_folder(tmp_path / "big", BIG))
    objects = exporter.store.objects
    _upload(bucket, "", {key: data for key, data in objects.items() if key.startswith(f"org/tiny/{commit}/")})
    importing = Importing(s3=_other(minio))
    assert await importing.take(f"s3://other/org/tiny/{commit}/") == commit
    manifest = f"org/tiny/{commit}/.registry/manifest.json"
    assert importing.store.objects[manifest] == objects[manifest]


async def test_an_object_that_changes_meanwhile_is_not_published(minio: MinioServer, bucket: Minio) -> None:
    _upload(bucket, "changing/", tiny_model())

    class Meddling(MemoryStore):
        async def stat(self, key: str) -> ObjectStat:
            _upload(bucket, "changing/", {"README.md": b"other words"})
            return await super().stat(key)

    importing = Importing(s3=_other(minio), store=Meddling())
    with pytest.raises(BadFolder, match=r"README\.md in s3://other/changing .* changed while"):
        await importing.take("s3://other/changing")
    assert importing.store.visible() == set()


async def test_a_bucket_that_cannot_be_read_says_why(minio: MinioServer, bucket: Minio) -> None:
    importing = Importing(s3=_other(minio))
    for source, reason in {
        "s3://other/nothing/here": "has no files",
        "s3://nowhere/models": "NoSuchBucket",
        "s3://../x": "is no address of a bucket",
    }.items():
        with pytest.raises(BadFolder, match=reason):
            await importing.take(source)
    endpoint = S3Endpoint(f"127.0.0.1:{free_port()}", secure=False)
    absent = OtherS3(endpoint, access_key="a", secret_key="b" * 8, region="us-east-1")
    with pytest.raises(SourceUnreachable, match="does not answer"):
        await Importing(s3=absent).take("s3://other/models")
