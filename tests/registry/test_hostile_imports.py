"""Folders, links and manifests of a stranger: refused in words, nothing visible or written elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from msp_common.contracts.jobs import ImportRequest
from msp_common.model_ids import InvalidModelId
from msp_registry.catalogue import Catalogue
from msp_registry.failures import BadArchive, BadFolder, JobFailure
from msp_registry.imports.importing import Importer
from msp_registry.imports.intake import Intake
from msp_registry.imports.local_folder import LocalFolder
from msp_registry.imports.places import ImportPlaces
from msp_registry.imports.source import ImportSource
from msp_registry.imports.tar_file import TarFile
from msp_registry.names import plain_name
from msp_registry.stores.folder_store import FolderStore
from msp_registry.transfers.transfer import Transfer
from msp_registry.upkeep.quarantine import Quarantine
from support.hostile_imports import (
    LONG,
    MANIFEST,
    lied,
    listing_more,
    manifest_of,
    nothing_written_beside,
    refused,
)
from support.registry_files import tiny_model, write_folder
from support.registry_imports import Importing, files_below, tar_of
from support.registry_progress import ToldProgress


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Path]:
    """Where imports may come from, with a model; around every test, nothing beside it changes."""
    with nothing_written_beside(tmp_path):
        yield write_folder(tmp_path / "roots", {f"tiny/{path}": data for path, data in tiny_model().items()})


@pytest.mark.parametrize("name", ["a\nb", "a\\b", b"\xff".decode(errors="surrogateescape")])
async def test_names_in_a_folder_that_not_every_store_can_hold(roots: Path, name: str) -> None:
    (roots / "tiny" / name).write_bytes(b"x")
    await refused(roots, roots / "tiny", "is no path of a model's file")


@pytest.mark.parametrize("way", ["file", "absolute", "folder", "dangling", "loop", "manifest", "own folder"])
async def test_a_link_in_a_folder_that_leads_out_or_nowhere(roots: Path, tmp_path: Path, way: str) -> None:
    folder = roots / "tiny"
    if way == "manifest":
        (folder / ".registry").mkdir()
        (folder / MANIFEST).symlink_to(tmp_path / "outside/secret")
    elif way == "own folder":
        (folder / ".registry").symlink_to(write_folder(tmp_path / "roots/other", {"manifest.json": b"{}"}))
    else:
        target = {
            "file": Path("../../outside/secret"),
            "absolute": tmp_path / "outside/secret",
            "folder": tmp_path / "outside",
            "dangling": Path("nothing"),
            "loop": Path("link"),
        }[way]
        (folder / "link").symlink_to(target)
    await refused(roots, folder, "link|cannot be read")


async def test_a_link_below_the_roots_leads_nowhere_else(roots: Path, tmp_path: Path) -> None:
    (roots / "way").symlink_to(tmp_path / "outside")
    (roots / "way.tar").symlink_to(tmp_path / "outside/secret")
    await refused(roots, roots / "way", "is below none of REGISTRY_IMPORT_ROOTS")
    await refused(roots, roots / "way.tar", "is below none of REGISTRY_IMPORT_ROOTS")


@pytest.mark.parametrize("swapped", ["file", "folder", "root", "tar"])
async def test_what_becomes_a_link_after_the_scan_is_not_followed(
    roots: Path, tmp_path: Path, swapped: str
) -> None:
    folder = write_folder(roots / "model", {"sub/secret": b"harmless", "a.txt": b"a"})
    source: ImportSource = LocalFolder(folder)
    place = {"file": folder / "sub/secret", "folder": folder / "sub", "root": folder}.get(swapped)
    if place is None:
        place = roots / "model.tar"
        place.write_bytes(tar_of({"sub/secret": b"harmless"}))
        source = TarFile(place)
    await source.scan()
    os.rename(place, roots / "moved")
    place.symlink_to(tmp_path / "outside/secret" if swapped in ("file", "tar") else tmp_path / "outside")
    with pytest.raises(JobFailure, match="cannot be read"):
        await anext(source.read("sub/secret", 0, 6))


MODEL = tiny_model()


LIES = {
    "no JSON": (b"<html>", "is no manifest"),
    "deep JSON": (b"[" * 100_000, "is no manifest"),
    "another schema": (manifest_of(MODEL, schema_version=2), "is no manifest: schema_version"),
    "no commit": (manifest_of(MODEL, commit="main"), "expected 40 hex digits"),
    "a commit that leads out": (manifest_of(MODEL, commit="../../.registry/jobs"), "expected 40 hex digits"),
    "a revision that leads out": (manifest_of(MODEL, revision="../x"), "is no revision"),
    "no files": (manifest_of({}), "lists no files"),
    "a total": (manifest_of(MODEL, total_bytes=1), "says 1 bytes in all"),
    "larger": (
        lied(MODEL, size_bytes=10**18),
        "has 43 bytes|has 44 bytes|bytes, the manifest says|bytes in the",
    ),
    "below zero": (lied(MODEL, size_bytes=-1), "no possible size and hashes"),
    "a hash": (
        lied(MODEL, sha256="0" * 64),
        "README.md: sha256|not what the manifest|not those of its manifest",
    ),
    "git's hash": (lied(MODEL, git_sha1="0" * 40), "git sha1"),
    "no hash": (lied(MODEL, sha256="../../x"), "no possible size and hashes"),
    "twice": (listing_more(MODEL, "README.md"), "listed twice"),
    "file and folder": (listing_more(MODEL, "README.md/x"), "both as a file and as a folder"),
    "a path that leads out": (listing_more(MODEL, "../../outside/x"), "is no path of a model's file"),
    "an absolute path": (listing_more(MODEL, "/etc/x"), "is no path of a model's file"),
    "a NUL": (listing_more(MODEL, "a\0b"), "is no path of a model's file"),
    "a long name": (listing_more(MODEL, LONG), "longer than"),
    "the registry's own": (listing_more(MODEL, ".registry/refs/main"), "the registry's own folder"),
    "another content's commit": (
        manifest_of(MODEL, source="folder"),
        "names commit a{40}, but that of its list of files is",
    ),
    "more files": (listing_more(MODEL, "more.txt"), "missing|ends without"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_manifest_that_lies(roots: Path, lie: str) -> None:
    manifest, reason = LIES[lie]
    write_folder(roots / "tiny", {MANIFEST: manifest})
    await refused(roots, roots / "tiny", reason)
    packed = tar_of({MANIFEST: manifest, **MODEL})
    (roots / "tiny.tar").write_bytes(packed)
    await refused(roots, roots / "tiny.tar", reason)
    importing = Importing()
    with pytest.raises(BadArchive, match=reason):
        await importing.take_tar(packed)
    assert importing.store.visible() == set()


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_commit_of_another_model_does_not_change_what_is_published(
    roots: Path, streamed: bool
) -> None:
    importing = Importing([roots])
    await importing.take_tar(tar_of({MANIFEST: manifest_of(MODEL), **MODEL}))
    before = dict(importing.store.objects)
    evil = MODEL | {"config.json": b'{"model_type": "evil"}'}
    (roots / "evil.tar").write_bytes(tar_of({MANIFEST: manifest_of(evil), **evil}))
    taking: Any = importing.take(roots / "evil.tar")
    if streamed:
        taking.close()
        taking = importing.take_tar(tar_of({MANIFEST: manifest_of(evil), **evil}))
    with pytest.raises(BadArchive, match=r"is in the store with another 'config\.json'"):
        await taking
    with pytest.raises(BadArchive, match="but what comes is commit"):
        await importing.take_tar(tar_of({MANIFEST: manifest_of(MODEL), **MODEL}), "b" * 40)
    assert importing.store.objects == before


async def test_more_files_of_a_published_commit_join_those_that_are_there(roots: Path) -> None:
    importing = Importing([roots])
    await importing.take_tar(tar_of({MANIFEST: manifest_of(MODEL), **MODEL}))
    more = {"config.json": MODEL["config.json"], "tokenizer.json": b"{}"}
    taken = await importing.take_tar(tar_of({MANIFEST: manifest_of(more), **more}))
    assert [file.path for file in taken.files] == sorted({*MODEL, *more})
    assert (taken.format, taken.parameters) == ("safetensors", 4)


async def test_sources_that_are_no_addresses(roots: Path) -> None:
    for source in ("\0", f"{roots}/tiny\0", f"/{LONG}", f"{roots}/{LONG}", "s3://" + LONG, "file:///etc"):
        importing = Importing([roots])
        with pytest.raises(BadFolder) as told:
            await importing.take(source)
        assert len(str(told.value)) < 1000
        assert importing.store.objects == {}


def test_ids_of_any_length_are_refused_in_few_words() -> None:
    for name in (LONG, f"org/{LONG}", "../x", "a/../b", "/etc", "a\0b", f"{'a/' * 5000}b"):
        with pytest.raises(InvalidModelId) as told:
            plain_name(name)
        assert len(str(told.value)) < 1000


async def test_over_a_folder_store_nothing_is_written_outside_the_model(roots: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    await store.prepare()
    catalogue = Catalogue(store)
    intake = Intake(store, catalogue, Transfer(store), Quarantine(store))
    importer = Importer(ImportPlaces([roots]), intake)
    before = files_below(tmp_path / "store")
    for number, (manifest, _) in enumerate(LIES.values()):
        write_folder(roots / f"lie{number}", {MANIFEST: manifest, **MODEL})
        with pytest.raises(JobFailure):
            await importer.take("org/tiny", ImportRequest(source=str(roots / f"lie{number}")), ToldProgress())
    assert await catalogue.models() == []
    new = files_below(tmp_path / "store").keys() - before.keys()
    written = {name for name in new if (tmp_path / "store" / name).is_file()}
    assert all("/org/tiny/" in f"/{name}" for name in written), written
