"""A model as a tar stream: what goes out comes back in the same, and nothing else comes in."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from msp_common.contracts.models import Manifest
from msp_common.snapshots import canonical_json
from msp_registry.archives.archives import NotExportable
from msp_registry.failures import BadArchive, BadSnapshot, JobFailure, QuotaExceeded
from support.registry_files import safetensors, tiny_model, write_folder
from support.registry_imports import Importing, member, raw_tar, tar_of

MANIFEST = ".registry/manifest.json"
FILES = {
    **tiny_model(3000),
    f"{'deep/' * 40}{'long' * 20}.txt": b"a path that only pax can hold",
    "NOTICE": b"notice",
}


async def exporter(folder: Path, files: dict[str, bytes] = FILES) -> Importing:
    importing = Importing([folder])
    await importing.take(write_folder(folder / "model", files))
    return importing


async def exported(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest, and the members of its tar in their order."""
    importing = await exporter(folder)
    with tarfile.open(fileobj=io.BytesIO(await importing.export())) as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    return (await importing.catalogue.find("org/tiny")).manifest, members


async def test_an_export_is_a_plain_tar_with_the_manifest_first(tmp_path: Path) -> None:
    manifest, members = await exported(tmp_path)
    assert list(members) == [MANIFEST, *sorted(FILES)]
    assert Manifest.model_validate_json(members.pop(MANIFEST)) == manifest
    assert members == FILES


async def test_the_same_snapshot_is_the_same_tar(tmp_path: Path) -> None:
    importing = await exporter(tmp_path)
    first = await importing.export()
    assert await importing.export() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert {(i.mtime, i.uid, i.gid, i.uname, i.mode) for i in tar} == {(0, 0, 0, "", 0o644)}


@pytest.mark.parametrize("step", [1, 511, 512, 1 << 20])
async def test_what_goes_out_comes_in_the_same(tmp_path: Path, step: int) -> None:
    there = await exporter(tmp_path)
    here = Importing()
    taken = await here.take_tar(await there.export(), step=step)
    found = await here.catalogue.find("org/tiny")
    assert taken == found.manifest == (await there.catalogue.find("org/tiny")).manifest
    assert here.store.objects == there.store.objects
    assert await here.export() == await there.export()


async def test_a_model_keeps_its_commit_under_another_name_and_ref(tmp_path: Path) -> None:
    there = await exporter(tmp_path)
    here = Importing()
    taken = await here.take_tar(await there.export(), "prod", "team/other")
    found = await here.catalogue.find("team/other", "prod")
    assert found.manifest == taken
    assert (taken.repo_id, taken.revision) == ("team/other", "main")
    assert taken.commit == (await there.catalogue.find("org/tiny")).manifest.commit
    again = await here.take_tar(await there.export(), taken.commit, "team/other")
    assert again == taken
    assert (await here.catalogue.find("team/other")).refs == {"prod": taken.commit}


async def test_a_second_time_writes_nothing_but_still_checks_every_byte(tmp_path: Path) -> None:
    data = await (await exporter(tmp_path)).export()
    here = Importing()
    await here.take_tar(data)
    before = list(here.store.puts)
    await here.take_tar(data)
    assert here.store.puts == before
    at = data.index(b"notice")
    with pytest.raises(BadArchive, match="NOTICE: sha256"):
        await here.take_tar(data[:at] + b"!" + data[at + 1 :])


async def test_after_a_broken_stream_the_next_one_completes_it(tmp_path: Path) -> None:
    data = await (await exporter(tmp_path)).export()
    here = Importing()
    with pytest.raises(BadArchive, match="cut short"):
        await here.take_tar(data[: len(data) // 2])
    assert here.store.visible() == set()
    await here.take_tar(data)
    assert len(here.store.visible()) == 2


async def test_only_of_files_that_clients_know_by_it_the_git_hash_is_compared(tmp_path: Path) -> None:
    """Of weights it is the sha256; a manifest's other hash of them is neither hashed nor asked for."""
    manifest, members = await exported(tmp_path)

    def with_wrong(path: str) -> bytes:
        files = [f.model_copy(update={"git_sha1": "0" * 40}) if f.path == path else f for f in manifest.files]
        told = manifest.model_copy(update={"files": files})
        head = canonical_json(told.model_dump(mode="json"))
        return tar_of({**members, MANIFEST: head})

    with pytest.raises(BadArchive, match="NOTICE: git sha1"):
        await Importing().take_tar(with_wrong("NOTICE"))
    here = Importing()
    for _ in range(2):
        await here.take_tar(with_wrong("model.safetensors"))
    assert await here.export() == with_wrong("model.safetensors")
    with pytest.raises(BadArchive, match="NOTICE: git sha1"):
        await here.take_tar(with_wrong("NOTICE"))


async def test_a_tar_repairs_what_is_quarantined(tmp_path: Path) -> None:
    importing = await exporter(tmp_path)
    data = await importing.export()
    commit = (await importing.catalogue.find("org/tiny")).manifest.commit
    key = f"org/tiny/{commit}/NOTICE"
    importing.store.objects[key] = b"damage"
    await importing.quarantine.put("org/tiny", commit, {"NOTICE": "sha256"})
    await importing.take_tar(data)
    assert importing.store.objects[key] == b"notice"
    assert await importing.quarantine.of("org/tiny", commit) == {}


async def test_members_in_another_order_and_folders_are_fine(tmp_path: Path) -> None:
    _, members = await exported(tmp_path)
    head = member(MANIFEST, members.pop(MANIFEST))
    folders = [member(f"./{name}", type=tarfile.DIRTYPE) for name in ("", "1_Pooling", "deep")]
    rest = [member(f"./{path}", data) for path, data in reversed(members.items())]
    here = Importing()
    await here.take_tar(raw_tar([folders[0], head, *folders[1:], *rest], form=tarfile.GNU_FORMAT))
    assert len(here.store.visible()) == 2


async def test_what_is_quarantined_or_lost_is_not_exported(tmp_path: Path) -> None:
    importing = await exporter(tmp_path)
    found = await importing.catalogue.find("org/tiny")
    commit = found.manifest.commit
    await importing.quarantine.put("org/tiny", commit, {"NOTICE": "sha256 is another"})
    with pytest.raises(NotExportable, match=r"NOTICE of org/tiny is quarantined.*/verify") as refused:
        await importing.archives.export(found)
    assert refused.value.code == "file_quarantined"
    await importing.quarantine.lift("org/tiny", commit)
    del importing.store.objects[f"org/tiny/{commit}/README.md"]
    with pytest.raises(NotExportable, match=r"README\.md of org/tiny is not whole"):
        await importing.archives.export(found)


async def test_a_flipped_bit_breaks_the_export_off(tmp_path: Path) -> None:
    importing = await exporter(tmp_path)
    found = await importing.catalogue.find("org/tiny")
    key = f"org/tiny/{found.manifest.commit}/NOTICE"
    importing.store.objects[key] = b"notise"
    length, stream = await importing.archives.export(found)
    came: list[bytes] = []

    async def receive() -> None:
        async for chunk in stream:
            came.append(chunk)

    with pytest.raises(NotExportable, match="NOTICE: sha256"):
        await receive()
    assert sum(map(len, came)) < length


async def test_a_tar_without_a_manifest_is_refused_with_another_way(tmp_path: Path) -> None:
    here = Importing()
    for data in (tar_of(tiny_model()), bytes(1024)):
        with pytest.raises(BadArchive, match=r"instead of \.registry/manifest\.json.*imported by their path"):
            await here.take_tar(data)
    assert here.store.objects == {}


@pytest.mark.parametrize("change", ["missing", "extra", "twice", "cut", "longer", "folder"])
async def test_each_file_of_the_manifest_comes_once_and_whole(tmp_path: Path, change: str) -> None:
    _, members = await exported(tmp_path)
    listed = list(members.items())
    match change:
        case "missing":
            listed.pop()
        case "extra":
            listed.append(("evil.py", b"import os"))
        case "twice":
            listed.append(("NOTICE", b"notice"))
        case "cut":
            listed[-1] = (listed[-1][0], listed[-1][1][:-1])
        case "longer":
            listed[-1] = (listed[-1][0], listed[-1][1] + b"x")
        case _:
            pass
    packed = [member(path, data) for path, data in listed]
    if change == "folder":
        packed.append(member("elsewhere", type=tarfile.DIRTYPE))
    reason = {
        "missing": "ends without",
        "extra": r"'evil\.py' unlisted",
        "twice": "'NOTICE' twice",
        "folder": "folder 'elsewhere'",
    }.get(change, "bytes in the tar, its manifest says")
    here = Importing()
    with pytest.raises(BadArchive, match=reason):
        await here.take_tar(raw_tar(packed))
    assert here.store.visible() == set()


async def test_a_model_that_cannot_be_one_is_not_published(tmp_path: Path) -> None:
    manifest, members = await exported(tmp_path)
    page = b"<!doctype html>".ljust(len(members["model.safetensors"]))
    there = Importing([tmp_path])
    await there.take(write_folder(tmp_path / "plain", {"a.txt": page, "b.txt": b""}))
    told = (await there.catalogue.find("org/tiny")).manifest
    files = [told.files[0].model_copy(update={"path": "model.safetensors"})]
    lying = manifest.model_copy(update={"files": files, "total_bytes": len(page), "source": "http://hub"})
    data = tar_of({MANIFEST: canonical_json(lying.model_dump(mode="json")), "model.safetensors": page})
    here = Importing()
    with pytest.raises(BadSnapshot, match=r"model\.safetensors is a web page"):
        await here.take_tar(data)
    assert here.store.visible() == set()


async def test_what_the_files_say_goes_before_what_the_manifest_says(tmp_path: Path) -> None:
    manifest, members = await exported(tmp_path)
    lying = manifest.model_copy(update={"format": "gguf", "parameters": 1, "dtype": "Q4_K"})
    members[MANIFEST] = canonical_json(lying.model_dump(mode="json"))
    taken = await Importing().take_tar(tar_of(members))
    assert taken == manifest
    assert (taken.format, taken.parameters, taken.dtype) == ("safetensors", 3000, "F32")
    assert list(taken.licence.text_sha256) == ["NOTICE"]


async def test_without_room_not_a_byte_is_stored(tmp_path: Path) -> None:
    data = await (await exporter(tmp_path)).export()
    here = Importing(quota_bytes=100)
    with pytest.raises(QuotaExceeded):
        await here.take_tar(data)
    assert here.store.objects == {}


async def test_every_cut_is_refused_and_nothing_is_visible(tmp_path: Path) -> None:
    data = await (await exporter(tmp_path, {"config.json": b"{}", "a.safetensors": safetensors()})).export()
    edges = {n + d for n in range(0, len(data), 512) for d in (-1, 0, 1)} & set(range(len(data)))
    # The very last block may be missing: one block of zeros ends a tar as well.
    for size in sorted(edges - set(range(len(data) - 512, len(data)))):
        here = Importing()
        with pytest.raises(BadArchive, match=r"cut short|begins with nothing|damaged"):
            await here.take_tar(data[:size])
        assert here.store.visible() == set()


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_to_a_tar_it_is_refused_or_harmless(tmp_path: Path, seed: int) -> None:
    there = await exporter(tmp_path, {"config.json": b"{}", "sub/a.safetensors": safetensors()})
    commit = (await there.catalogue.find("org/tiny")).manifest.commit
    whole = await there.export()
    chance = random.Random(seed)
    refused = 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        broken = bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data)
        here = Importing()
        try:
            await here.take_tar(broken + chance.randbytes(chance.choice([0, 0, 0, 600])))
        except JobFailure:
            refused += 1
            assert here.store.visible() == set()
            continue
        # Bits that say nothing, such as a time, or words of the manifest that describe no byte.
        files = {k: v for k, v in here.store.objects.items() if k not in here.store.visible()}
        theirs = {k: v for k, v in there.store.objects.items() if k not in there.store.visible()}
        assert files == theirs
        assert here.store.visible() == {
            f"org/tiny/{commit}/.registry/manifest.json",
            "org/tiny/.registry/refs/main",
        }
    assert refused
