"""Tars that no honest tool makes: refused in words, nothing visible, nothing written elsewhere."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from msp_registry.archives.tar_headers import TarHeaders
from msp_registry.failures import BadArchive
from support.hostile_imports import LONG, MANIFEST, manifest_of, nothing_written_beside, refused_tar
from support.registry_files import tiny_model, write_folder
from support.registry_imports import Importing, TarForm, member, pieces, raw_tar, tar_of


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Path]:
    """Where imports may come from, with a model; around every test, nothing beside it changes."""
    with nothing_written_beside(tmp_path):
        yield write_folder(tmp_path / "roots", {f"tiny/{path}": data for path, data in tiny_model().items()})


BAD_NAMES = [
    "../outside",
    "a/../../outside",
    "/etc/outside",
    "a//b",
    "a/./b",
    "..",
    "a\nb",
    "a\\b",
    LONG,
    f"{'a/' * 600}b",
    b"\xff".decode(errors="surrogateescape"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
async def test_names_in_a_tar_that_lead_out_or_fit_no_store(roots: Path, name: str, form: TarForm) -> None:
    data = raw_tar([member("config.json", b"{}"), member(name, b"x")], form=form)
    await refused_tar(roots, data, r"path that may stand in a tar|not UTF-8|is damaged")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse file"),
        (b"Z", "unknown kind"),
    ],
)
async def test_what_is_neither_file_nor_folder_in_a_tar(roots: Path, kind: bytes, word: str) -> None:
    odd = member("model.safetensors", type=kind, linkname="../../outside/secret")
    await refused_tar(roots, raw_tar([member("config.json", b"{}"), odd], form=tarfile.GNU_FORMAT), word)


async def test_a_member_that_announces_more_than_there_is(roots: Path) -> None:
    info, _ = member("model.safetensors")
    info.size = 1 << 60
    await refused_tar(roots, raw_tar([member("config.json", b"{}"), (info, b"x")]), "is cut short inside")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
async def test_a_header_that_announces_gigabytes_of_its_own(roots: Path, kind: bytes) -> None:
    info, _ = member("x", type=kind)
    info.size = 4 << 30
    await refused_tar(roots, raw_tar([(info, b"")], form=tarfile.GNU_FORMAT), "bytes of its own")


async def test_millions_of_members() -> None:
    folder = member("a", type=tarfile.DIRTYPE)[0].tobuf(tarfile.USTAR_FORMAT)
    asked = 0

    async def endless() -> Any:
        nonlocal asked
        yield tar_of({MANIFEST: manifest_of(tiny_model())})[:-1024]
        while True:
            asked += 1000
            yield folder * 1000

    importing = Importing()
    with pytest.raises(BadArchive, match="folder 'a' that no file of its manifest is in"):
        await importing.archives.take("org/tiny", "main", endless())
    assert asked == 1000


def test_headers_are_counted_whatever_they_are() -> None:
    folder = member("a", type=tarfile.DIRTYPE)[0].tobuf(tarfile.USTAR_FORMAT)
    extended = member("x", type=tarfile.XHDTYPE)[0].tobuf(tarfile.USTAR_FORMAT)
    headers = TarHeaders(max_members=3)
    for block in (folder, extended, folder):
        headers.read(block)
    with pytest.raises(BadArchive, match="more than 3 members"):
        headers.read(extended)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (b"22 GNU.sparse.major=1\n", "sparse"),
        (b"30 size=18446744073709551616000\n", "extended header"),
        (b"11 size=-1\n", "announces a member of b'-1' bytes"),
        (b"12 path=a\0b\n", "may stand in a tar"),
        (b"99 path=x\n", "extended header of the tar is damaged"),
        (b"9 path=x\n9 path=y", "extended header of the tar is damaged"),
        (b"path=x\n", "extended header of the tar is damaged"),
        (b"19 path=../outside\n", "may stand in a tar"),
        (b"21 hdrcharset=BINARY\n", "not UTF-8"),
        (b"9 path=\xff\n", "is not UTF-8"),
    ],
)
async def test_extended_headers_that_lie(roots: Path, records: bytes, reason: str) -> None:
    data = raw_tar(
        [member("x", records, type=tarfile.XHDTYPE), member("config.json", b"{}")], form=tarfile.USTAR_FORMAT
    )
    await refused_tar(roots, data, reason)


async def test_a_path_for_all_members_and_a_header_for_none(roots: Path) -> None:
    everywhere = member("x", b"11 path=xx\n", type=tarfile.XGLTYPE)
    data = raw_tar([everywhere, member("config.json", b"{}")], form=tarfile.USTAR_FORMAT)
    await refused_tar(roots, data, "gives one path to all")
    alone = member("x", b"x", type=tarfile.GNUTYPE_LONGNAME)
    await refused_tar(roots, raw_tar([alone], form=tarfile.GNU_FORMAT), "does not come")


async def test_what_comes_after_the_end(roots: Path) -> None:
    data = tar_of({MANIFEST: manifest_of(tiny_model()), **tiny_model()})
    for tail in (b"x", tar_of({"evil.py": b"import os"}), bytes(2 << 20)):
        importing = Importing()
        with pytest.raises(BadArchive, match="more than padding comes after"):
            await importing.archives.take("org/tiny", "main", pieces(data + tail, 10_000))
        assert importing.store.visible() == set()
    await Importing().take_tar(data + bytes(9216))


async def test_twice_the_same_name_in_a_tar(roots: Path) -> None:
    await refused_tar(roots, raw_tar([member("a", b"1"), member("./a", b"2")]), "holds 'a' twice")
    await refused_tar(
        roots, raw_tar([member("a", b"1"), member("a/b", b"2")]), "both as a file and as a folder"
    )
