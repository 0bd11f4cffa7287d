"""A tar that leaves files to the store: they are found by their hash, and hashed again on their way."""

from pathlib import Path

import pytest

from msp_registry.failures import BadArchive, FilesMissing
from support.registry_files import safetensors, tiny_model, write_folder
from support.registry_imports import Importing, tar_of

MANIFEST = ".registry/manifest.json"
OLD = {**tiny_model(3000), "NOTICE": b"notice"}
NEW = {**OLD, "README.md": b"---\nlicense: mit\n---\n# Newer\n"}
CHANGED = {path: data for path, data in NEW.items() if OLD[path] != data}


async def there(folder: Path, files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """The manifest and the whole tar that another registry gives of these files."""
    importing = Importing([folder])
    await importing.take(write_folder(folder / "model", files))
    manifest = (await importing.catalogue.find("org/tiny")).manifest
    return manifest.model_dump_json().encode(), await importing.export()


async def holding(data: bytes, repo_id: str = "org/tiny") -> Importing:
    here = Importing()
    await here.take_tar(data, repo_id=repo_id)
    return here


async def take(here: Importing, tar: bytes, repo_id: str = "org/tiny") -> str:
    async def stream() -> object:
        yield tar

    taken = await here.archives.take(repo_id, "main", stream(), rest_from_store=True)  # type: ignore[arg-type]
    return taken.commit


@pytest.mark.parametrize("holder", ["org/tiny", "somebody/else"])
async def test_what_did_not_change_comes_from_a_snapshot_that_has_it(tmp_path: Path, holder: str) -> None:
    _, old = await there(tmp_path / "old", OLD)
    manifest, _ = await there(tmp_path / "new", NEW)
    here = await holding(old, holder)

    commit = await take(here, tar_of({MANIFEST: manifest, **CHANGED}))

    stored = {path: here.store.objects[f"org/tiny/{commit}/{path}"] for path in NEW}
    assert stored == NEW
    assert (await here.catalogue.find("org/tiny")).manifest.commit == commit


async def test_a_tar_may_hold_nothing_but_the_manifest(tmp_path: Path) -> None:
    fewer = {path: data for path, data in OLD.items() if path != "NOTICE"}
    _, old = await there(tmp_path / "old", OLD)
    manifest, _ = await there(tmp_path / "new", fewer)
    here = await holding(old)

    commit = await take(here, tar_of({MANIFEST: manifest}))

    assert {path: here.store.objects[f"org/tiny/{commit}/{path}"] for path in fewer} == fewer


async def test_without_being_asked_for_the_store_fills_no_gap(tmp_path: Path) -> None:
    _, old = await there(tmp_path / "old", OLD)
    manifest, _ = await there(tmp_path / "new", NEW)
    here = await holding(old)

    with pytest.raises(BadArchive, match=r"ends without '1_Pooling/config.json'"):
        await here.take_tar(tar_of({MANIFEST: manifest, **CHANGED}))


async def test_a_file_that_the_store_lacks_is_named_and_nothing_becomes_visible(tmp_path: Path) -> None:
    _, old = await there(tmp_path / "old", {**OLD, "model.safetensors": safetensors(4000)})
    manifest, _ = await there(tmp_path / "new", NEW)
    here = await holding(old)
    before = here.store.visible()

    with pytest.raises(FilesMissing, match=r"^'model\.safetensors' \(sha256 [0-9a-f]{12}…\) of org/tiny"):
        await take(here, tar_of({MANIFEST: manifest, **CHANGED}))

    assert here.store.visible() == before


async def test_a_quarantined_file_is_no_source(tmp_path: Path) -> None:
    _, old = await there(tmp_path / "old", OLD)
    manifest, _ = await there(tmp_path / "new", NEW)
    here = await holding(old)
    commit = (await here.catalogue.find("org/tiny")).manifest.commit
    await here.quarantine.put("org/tiny", commit, {"NOTICE": "sha256 is another"})

    with pytest.raises(FilesMissing, match="'NOTICE'"):
        await take(here, tar_of({MANIFEST: manifest, **CHANGED}))


@pytest.mark.parametrize("path", ["NOTICE", "model.safetensors"], ids=["small", "in parts"])
async def test_damaged_bytes_in_the_store_are_noticed_on_their_way(tmp_path: Path, path: str) -> None:
    _, old = await there(tmp_path / "old", OLD)
    manifest, _ = await there(tmp_path / "new", NEW)
    here = await holding(old)
    commit = (await here.catalogue.find("org/tiny")).manifest.commit
    key = f"org/tiny/{commit}/{path}"
    here.store.objects[key] = here.store.objects[key][:-1] + b"\xff"
    before = here.store.visible()

    with pytest.raises(FilesMissing, match=rf"damaged there \(.*{path}: sha256 is"):
        await take(here, tar_of({MANIFEST: manifest, **CHANGED}))

    assert here.store.visible() == before


async def test_what_was_stored_by_a_broken_import_is_carried_on(tmp_path: Path) -> None:
    _, old = await there(tmp_path / "old", OLD)
    manifest, _ = await there(tmp_path / "new", NEW)
    here = await holding(old)
    tar = tar_of({MANIFEST: manifest, **CHANGED})
    with pytest.raises(BadArchive, match="cut short"):
        await take(here, tar[:-1024])

    commit = await take(here, tar)

    assert (await here.catalogue.find("org/tiny")).manifest.commit == commit
