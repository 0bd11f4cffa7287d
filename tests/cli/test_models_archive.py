"""`msp models import` and `export` against a registry that really listens."""

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from msp_cli import archive_sending, archive_source
from msp_cli.archive_source import Unsuitable
from msp_cli.exit_codes import ExitCode
from msp_common.contracts.models import Manifest, ManifestFile
from msp_common.snapshots import MANIFEST_PATH, local_commit
from support.cli_registry import COMMIT, INFO, Served, failed

CONTENT = {"config.json": b"{}", "sub/model.safetensors": b"w" * 3000}


def described(path: str, data: bytes) -> ManifestFile:
    git = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    return ManifestFile(
        path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), git_sha1=git
    )


FILES = [described(path, data) for path, data in CONTENT.items()]
OWN_COMMIT = local_commit(FILES)


def manifest(**facts: Any) -> Manifest:
    base: dict[str, Any] = {
        "repo_id": "acme/chat",
        "commit": COMMIT,
        "revision": "main",
        "source": "https://huggingface.co",
        "files": FILES,
        "total_bytes": sum(map(len, CONTENT.values())),
        "format": "safetensors",
        "tool_version": "0",
    }
    return Manifest(**{**base, **facts})


def tar_of(*members: tuple[str | tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def exported(listed: Manifest | None = None, content: dict[str, bytes] | None = None) -> bytes:
    first = (MANIFEST_PATH, (listed or manifest()).model_dump_json().encode())
    return tar_of(first, *(CONTENT if content is None else content).items())


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def write(folder: Path, content: dict[str, bytes]) -> Path:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model", CONTENT)


@pytest.fixture
def taking(served: Served) -> Served:
    """A registry that takes an archive."""
    served.fake.answers["PUT", "/models/acme/chat/archive"] = (201, INFO)
    return served


@pytest.fixture
def giving(served: Served) -> Served:
    """A registry that has the model to export."""
    info = {**INFO, "manifest": manifest().model_dump(mode="json")}
    served.fake.answers["GET", "/models/acme/chat"] = (200, info)
    served.fake.archive = exported()
    return served


def test_a_source_that_the_registry_sees_becomes_a_job(served: Served) -> None:
    served.fake.scripts["acme/chat"] = [failed("bad_folder", "the folder has no files", retryable=False)]
    shown = served.msp("models", "import", "acme/chat", "/data/chat", code=ExitCode.FAILED)
    assert "the folder has no files" in shown
    sent = {"kind": "import", "source": "/data/chat", "revision": "main"}
    assert served.fake.body("/models/acme/chat/import") == sent


def test_an_s3_prefix_is_passed_on_as_it_is(served: Served) -> None:
    served.msp("models", "import", "acme/chat", "s3://bucket/a/b", "--revision", "v2")
    assert served.fake.body("/models/acme/chat/import")["source"] == "s3://bucket/a/b"


def test_an_uploaded_folder_is_named_by_its_content_and_sent_with_its_manifest_first(
    taking: Served, folder: Path
) -> None:
    shown = taking.run(
        "models", "import", "acme/chat", str(folder), "--upload", "--revision", "v2", REGISTRY_ADMIN_TOKEN="t"
    )
    assert shown.stdout == f"imported acme/chat at {COMMIT} (main)\n"
    assert "hashing: 3.0 kB" in shown.stderr
    assert taking.fake.asked[0][:3] == ("PUT", "/models/acme/chat/archive?revision=v2", "Bearer t")
    members = unpacked(taking.fake.uploaded)
    assert next(iter(members)) == MANIFEST_PATH
    sent = Manifest.model_validate_json(members.pop(MANIFEST_PATH))
    assert members == CONTENT
    assert sent.files == FILES
    assert (sent.commit, sent.revision, sent.source) == (OWN_COMMIT, "v2", "folder")
    assert sent.total_bytes == 3002


def test_the_same_content_is_sent_as_the_same_bytes(taking: Served, folder: Path) -> None:
    sent = []
    for when in (1, 2):
        for path in CONTENT:
            os.utime(folder / path, (when, when))
            (folder / path).chmod(0o600 + when)
        taking.msp("models", "import", "acme/chat", str(folder), "--upload")
        sent.append(taking.fake.uploaded)
    assert sent[0] == sent[1]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_uploaded_tar_gets_the_commit_of_the_folder_in_it(
    taking: Served, tmp_path: Path, mode: str
) -> None:
    place = tmp_path / "model.tar"
    place.write_bytes(tar_of(*((f"./{path}", data) for path, data in CONTENT.items()), mode=mode))
    taking.msp("models", "import", "acme/chat", str(place), "--upload")
    members = unpacked(taking.fake.uploaded)
    assert Manifest.model_validate_json(members.pop(MANIFEST_PATH)).commit == OWN_COMMIT
    assert members == CONTENT


def test_a_long_path_arrives_as_it_is(taking: Served, tmp_path: Path) -> None:
    path = "/".join(["ü" * 80] * 3)
    write(tmp_path / "model", {path: b"x"})
    taking.msp("models", "import", "acme/chat", str(tmp_path / "model"), "--upload")
    assert unpacked(taking.fake.uploaded)[path] == b"x"


def test_what_an_export_made_is_uploaded_with_its_own_commit(taking: Served, folder: Path) -> None:
    (folder / ".registry").mkdir()
    (folder / MANIFEST_PATH).write_text(manifest(revision="old").model_dump_json())
    taking.msp("models", "import", "acme/chat", str(folder), "--upload")
    sent = Manifest.model_validate_json(unpacked(taking.fake.uploaded)[MANIFEST_PATH])
    assert (sent.commit, sent.source) == (COMMIT, "https://huggingface.co")


@pytest.mark.parametrize("change", [{"more.txt": b"x"}, {"config.json": b"{ }"}, {"config.json": None}])
def test_an_export_that_was_changed_is_not_sent(
    taking: Served, folder: Path, change: dict[str, bytes | None]
) -> None:
    (folder / ".registry").mkdir()
    (folder / MANIFEST_PATH).write_text(manifest().model_dump_json())
    for path, data in change.items():
        (folder / path).unlink(missing_ok=True)
        if data is not None:
            (folder / path).write_bytes(data)
    shown = taking.msp("models", "import", "acme/chat", str(folder), "--upload", code=ExitCode.USAGE)
    assert next(iter(change)) in shown
    assert f"delete {MANIFEST_PATH}" in shown
    assert taking.fake.uploaded == b""


def test_links_are_followed_inside_the_folder_and_refused_out_of_it(taking: Served, folder: Path) -> None:
    (folder / "same.json").symlink_to("config.json")
    taking.msp("models", "import", "acme/chat", str(folder), "--upload")
    assert unpacked(taking.fake.uploaded)["same.json"] == b"{}"

    (folder.parent / "secret").write_text("s")
    (folder / "out").symlink_to("../secret")
    shown = taking.msp("models", "import", "acme/chat", str(folder), "--upload", code=ExitCode.USAGE)
    assert "cp -rL" in shown
    (folder / "out").unlink()
    (folder / "away").symlink_to(folder.parent)
    shown = taking.msp("models", "import", "acme/chat", str(folder), "--upload", code=ExitCode.USAGE)
    assert "symbolic link to a folder" in shown
    # Asked whether it would be taken, then sent: the first one alone.
    assert taking.fake.paths("PUT") == 2 * ["/models/acme/chat/archive?revision=main"]


@pytest.mark.parametrize("name", ["../x", "/x", "a/./b", "a\nb"])
def test_a_tar_with_tricks_in_it_is_not_sent(taking: Served, tmp_path: Path, name: str) -> None:
    place = tmp_path / "model.tar"
    place.write_bytes(tar_of((name, b"x")))
    taking.msp("models", "import", "acme/chat", str(place), "--upload", code=ExitCode.USAGE)
    link = tarfile.TarInfo("x")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    place.write_bytes(tar_of((link, b"")))
    taking.msp("models", "import", "acme/chat", str(place), "--upload", code=ExitCode.USAGE)
    assert taking.fake.asked == []


def test_a_folder_too_high_is_not_sent(taking: Served, folder: Path) -> None:
    shown = taking.msp("models", "import", "acme/chat", str(folder.parent), "--upload", code=ExitCode.USAGE)
    assert "are in the folder 'model'; send that folder itself" in shown


def test_what_cannot_be_sent_is_named(taking: Served, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no tar")
    for name, said in (("empty", "has no files"), ("text", "neither a folder"), ("none", "on this machine")):
        shown = taking.msp(
            "models", "import", "acme/chat", str(tmp_path / name), "--upload", code=ExitCode.USAGE
        )
        assert said in shown


def test_a_file_that_changes_while_it_is_sent_stops_the_upload(folder: Path) -> None:
    with archive_source.opened(folder) as source:
        files = source.files()
        made = archive_sending.hashed_manifest(source, "acme/chat", "main", lambda _: None)
        for size in (10, 5000):
            (folder / "sub/model.safetensors").write_bytes(bytes(size))
            with pytest.raises(Unsuitable, match=r"sub/model\.safetensors changed while it was read"):
                b"".join(archive_sending.tar_stream(made, source, files, lambda _: None))


def test_a_refused_upload_says_why(served: Served, folder: Path) -> None:
    busy = {"error": {"message": "a job brings acme/chat", "code": "model_busy"}}
    served.fake.answers["PUT", "/models/acme/chat/archive"] = (409, busy)
    shown = served.msp("models", "import", "acme/chat", str(folder), "--upload", code=ExitCode.REFUSED)
    assert "a job brings acme/chat" in shown
    # Nothing was read or sent for it.
    assert "hashing" not in shown
    assert (served.fake.paths("PUT"), served.fake.uploaded) == (
        ["/models/acme/chat/archive?revision=main"],
        b"",
    )


def test_an_export_to_a_tar_is_the_archive_itself(giving: Served, tmp_path: Path) -> None:
    place = tmp_path / "chat.tar"
    shown = giving.run("models", "export", "acme/chat", str(place), "--revision", "prod").stdout
    assert shown == f"exported acme/chat at {COMMIT} to {place}: 2 files, 3.0 kB\n"
    assert place.read_bytes() == giving.fake.archive
    assert giving.fake.paths("GET") == [
        "/models/acme/chat?revision=prod",
        f"/models/acme/chat/archive?revision={COMMIT}",
    ]


def test_an_export_to_a_folder_is_the_files_and_their_manifest(giving: Served, tmp_path: Path) -> None:
    place = tmp_path / "chat"
    made = giving.json("models", "export", "acme/chat", str(place))
    assert (made["commit"], made["files"], made["place"]) == (COMMIT, 2, str(place))
    assert {path: (place / path).read_bytes() for path in CONTENT} == CONTENT
    assert Manifest.model_validate_json((place / MANIFEST_PATH).read_text()) == manifest()


OUT = described("../out", b"x")
OWN = described(".registry/x", b"x")
BROKEN = {
    "wrong bytes": exported(content={**CONTENT, "config.json": b"[]"}),
    "wrong size": exported(content={**CONTENT, "config.json": b"{ }"}),
    "a file missing": exported(content={"config.json": b"{}"}),
    "a file too many": exported(content={**CONTENT, "more": b"x"}),
    "no manifest first": tar_of(*CONTENT.items()),
    "a manifest that is none": tar_of((MANIFEST_PATH, b"{}")),
    "another commit": exported(manifest(commit="e" * 40)),
    "a path that leaves": exported(manifest(files=[OUT]), {"../out": b"x"}),
    "the registry's own folder": exported(manifest(files=[OWN]), {".registry/x": b"x"}),
    "half a tar": exported()[:4000],
    "no tar": b"<html>" * 1000,
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("name", ["chat.tar", "chat"])
def test_an_archive_that_is_not_what_its_manifest_says_leaves_nothing_behind(
    giving: Served, tmp_path: Path, name: str, what: str
) -> None:
    giving.fake.archive = BROKEN[what]
    shown = giving.msp("models", "export", "acme/chat", str(tmp_path / name), code=ExitCode.CORRUPT)
    assert "nothing was kept" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["chat.tar", "chat"])
def test_a_link_in_an_archive_is_refused(giving: Served, tmp_path: Path, name: str) -> None:
    link = tarfile.TarInfo("config.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    first = (MANIFEST_PATH, manifest().model_dump_json().encode())
    giving.fake.archive = tar_of(first, (link, b""))
    giving.msp("models", "export", "acme/chat", str(tmp_path / name), code=ExitCode.CORRUPT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["chat.tar", "chat"])
def test_a_connection_that_breaks_leaves_nothing_behind(giving: Served, tmp_path: Path, name: str) -> None:
    giving.fake.archive_cut_at = 4000
    giving.msp("models", "export", "acme/chat", str(tmp_path / name), code=ExitCode.AWAY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["chat.tar", "chat.tar.part"])
def test_an_export_overwrites_nothing(giving: Served, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    giving.msp("models", "export", "acme/chat", str(tmp_path / "chat.tar"), code=ExitCode.USAGE)
    assert (tmp_path / name).read_text() == "mine"
    assert giving.fake.asked == []


def test_an_export_that_does_not_fit_is_refused_with_both_numbers(giving: Served, tmp_path: Path) -> None:
    huge = {**INFO, "manifest": manifest(total_bytes=10**18).model_dump(mode="json")}
    giving.fake.answers["GET", "/models/acme/chat"] = (200, huge)
    shown = giving.msp("models", "export", "acme/chat", str(tmp_path / "x.tar"), code=ExitCode.REFUSED)
    assert "needs 1.0 EB" in shown
    assert "free" in shown


def carried(folder: Path, listed: Manifest) -> Path:
    """An exported folder."""
    return write(folder, {MANIFEST_PATH: listed.model_dump_json().encode()})


def test_a_file_in_parts_is_sent_as_the_file_that_it_is(taking: Served, folder: Path) -> None:
    weights = carried(folder, manifest()) / "sub/model.safetensors"
    data = weights.read_bytes()
    for number in range(3):
        part = weights.with_name(f"{weights.name}.part-{number:03}")
        part.write_bytes(data[number * 1000 : number * 1000 + 1000])
    weights.unlink()

    taking.msp("models", "import", "acme/chat", str(folder), "--upload")

    members = unpacked(taking.fake.uploaded)
    members.pop(MANIFEST_PATH)
    assert members == CONTENT


def test_a_file_that_is_only_named_like_a_part_stays_what_it_is(taking: Served, folder: Path) -> None:
    content = {**CONTENT, "config.json.part-000": b"its own"}
    files = [described(path, data) for path, data in content.items()]
    listed = manifest(files=files, total_bytes=sum(map(len, content.values())))
    write(carried(folder, listed), {"config.json.part-000": b"its own"})

    taking.msp("models", "import", "acme/chat", str(folder), "--upload")

    members = unpacked(taking.fake.uploaded)
    members.pop(MANIFEST_PATH)
    assert members == content


def test_what_is_not_there_is_left_to_the_store_when_that_is_asked_for(taking: Served, folder: Path) -> None:
    (carried(folder, manifest()) / "config.json").unlink()
    arguments = ("models", "import", "acme/chat", str(folder), "--upload")

    told = taking.msp(*arguments, code=ExitCode.USAGE)
    assert "lists config.json, which is not there" in told
    taking.msp(*arguments, "--rest-from-store")

    assert taking.fake.asked[-1][1] == "/models/acme/chat/archive?revision=main&rest_from_store=true"
    assert sorted(unpacked(taking.fake.uploaded)) == [MANIFEST_PATH, "sub/model.safetensors"]


def test_the_rest_can_be_left_to_the_store_only_with_a_manifest_and_an_upload(
    taking: Served, folder: Path
) -> None:
    arguments = ("models", "import", "acme/chat", str(folder), "--rest-from-store")

    assert "goes with --upload" in taking.msp(*arguments, code=ExitCode.USAGE)
    assert "no .registry/manifest.json" in taking.msp(*arguments, "--upload", code=ExitCode.USAGE)
