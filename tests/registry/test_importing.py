"""Taking a folder into the store: the same folder is the same commit, and nothing hostile gets in."""

import os
import socket
from pathlib import Path

import pytest

from msp_registry.catalogue import Catalogue
from msp_registry.failures import BadFolder, BadSnapshot, QuotaExceeded
from msp_registry.importing import Importer
from msp_registry.local_folder import allowed_folder
from msp_registry.store import ObjectStat
from support.registry_files import safetensors, tiny_model, write_folder
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress


class Importing:
    """An importer over a store in memory."""

    def __init__(self, quota_bytes: int | None = None) -> None:
        self.store = MemoryStore()
        self.catalogue = Catalogue(self.store)
        self.importer = Importer(self.store, self.catalogue, quota_bytes=quota_bytes)

    async def take(self, folder: Path, revision: str = "main") -> str:
        progress = ToldProgress()
        await self.importer.take("org/tiny", folder, revision, progress)
        assert progress.commit is not None
        assert progress.bytes_done == progress.bytes_total
        return progress.commit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny", tiny_model())


async def test_the_same_files_have_the_same_commit_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    importing = Importing()
    first = await importing.take(folder)
    before = list(importing.store.puts)
    assert await importing.take(folder) == first
    copy = write_folder(tmp_path / "copy", dict(reversed(tiny_model().items())))
    assert await importing.take(copy) == first
    assert importing.store.puts == before
    assert importing.store.puts[-2:] == [
        f"org/tiny/{first}/.registry/manifest.json",
        "org/tiny/.registry/refs/main",
    ]


async def test_another_byte_is_another_commit_and_moves_the_ref(folder: Path) -> None:
    importing = Importing()
    first = await importing.take(folder)
    (folder / "config.json").write_bytes(b'{"model_type": "tinier"}')
    second = await importing.take(folder)
    assert second != first
    assert (await importing.catalogue.find("org/tiny")).manifest.commit == second
    assert (await importing.catalogue.find("org/tiny", first)).manifest.commit == first


async def test_a_second_ref_of_the_same_folder_costs_one_write(folder: Path) -> None:
    importing = Importing()
    commit = await importing.take(folder)
    importing.store.puts.clear()
    await importing.take(folder, "prod")
    assert importing.store.puts == ["org/tiny/.registry/refs/prod"]
    assert (await importing.catalogue.find("org/tiny")).refs == {"main": commit, "prod": commit}


async def test_an_import_that_broke_off_writes_only_what_is_missing(folder: Path) -> None:
    importing = Importing()
    commit = await importing.take(folder)
    for key in [*importing.store.visible(), f"org/tiny/{commit}/config.json"]:
        del importing.store.objects[key]
    importing.store.puts.clear()
    retry = Importer(importing.store, Catalogue(importing.store))
    await retry.take("org/tiny", folder, "main", ToldProgress())
    assert importing.store.puts[0] == f"org/tiny/{commit}/config.json"
    assert len(importing.store.puts) == 3


async def test_what_tools_leave_behind_is_not_part_of_the_model(folder: Path) -> None:
    importing = Importing()
    commit = await importing.take(folder)
    for left in (
        ".git/HEAD",
        ".cache/huggingface/x.metadata",
        ".registry/manifest.json",
        "__pycache__/a.pyc",
    ):
        write_folder(folder, {left: b"left"})
    assert await importing.take(folder) == commit


async def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    importing = Importing()
    (folder / "copy.json").symlink_to("config.json")
    commit = await importing.take(folder)
    assert importing.store.objects[f"org/tiny/{commit}/copy.json"] == b'{"model_type": "tiny"}'


@pytest.mark.parametrize("way", ["file", "absolute", "folder", "dangling", "loop"])
async def test_a_link_that_leads_out_or_nowhere_is_refused(folder: Path, tmp_path: Path, way: str) -> None:
    secret = write_folder(tmp_path / "outside", {"secret": b"secret"}) / "secret"
    target = {
        "file": Path("../outside/secret"),
        "absolute": secret,
        "folder": secret.parent,
        "dangling": Path("nothing"),
        "loop": Path("link"),
    }[way]
    (folder / "link").symlink_to(target)
    importing = Importing()
    with pytest.raises(BadFolder, match="link"):
        await importing.take(folder)
    assert importing.store.objects == {}


@pytest.mark.parametrize("kind", ["fifo", "socket"])
async def test_what_is_no_file_is_refused_without_being_opened(folder: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(folder / "odd")
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(folder / "odd"))
    with pytest.raises(BadFolder, match="odd is no regular file"):
        await Importing().take(folder)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", b"\xff".decode(errors="surrogateescape")])
async def test_names_that_not_every_store_can_hold_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(BadFolder, match="is no path of a model's file"):
        await Importing().take(folder)


async def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="has no files"):
        await Importing().take(tmp_path)
    with pytest.raises(BadFolder, match="is no folder"):
        await Importing().take(tmp_path / "missing")


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("config.json", b"<html>", "config.json is not JSON"),
        ("config.json", b"[]", "config.json is no JSON object"),
        ("model.safetensors", b"", "has only 0 bytes"),
        ("model.safetensors", b"<!doctype html><html>...", "announce a header"),
        ("model.safetensors", safetensors(cut=1), "tensors need 16 bytes, the file has 15"),
        ("model.safetensors", safetensors() + b"x", "tensors need 16 bytes, the file has 17"),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0[]", "no JSON object"),
        ("model.safetensors", b'\x08\0\0\0\0\0\0\0{"a": 1}', "no valid dtype"),
    ],
)
async def test_files_that_cannot_be_what_they_say_are_refused(
    folder: Path, path: str, data: bytes, reason: str
) -> None:
    (folder / path).write_bytes(data)
    importing = Importing()
    with pytest.raises(BadSnapshot, match=reason):
        await importing.take(folder)
    assert importing.store.objects == {}


async def test_a_file_that_changes_meanwhile_is_not_published(folder: Path) -> None:
    class Meddling(MemoryStore):
        async def stat(self, key: str) -> ObjectStat:
            (folder / "model.safetensors").write_bytes(safetensors()[:-1] + b"!")
            return await super().stat(key)

    store = Meddling()
    with pytest.raises(BadFolder, match="changed while it was imported"):
        await Importer(store, Catalogue(store)).take("org/tiny", folder, "main", ToldProgress())
    assert store.visible() == set()


async def test_a_folder_above_the_quota_is_refused(folder: Path) -> None:
    importing = Importing(quota_bytes=100)
    with pytest.raises(QuotaExceeded, match="REGISTRY_QUOTA_BYTES=100"):
        await importing.take(folder)
    assert importing.store.objects == {}


def test_a_root_itself_may_be_imported(tmp_path: Path) -> None:
    assert allowed_folder(str(tmp_path), [tmp_path]) == tmp_path.resolve()
