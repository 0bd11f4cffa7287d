"""Files arrive whole and verified, once per host, whatever happens on the way."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from msp_model_service.weights.cache import (
    SnapshotFolder,
    UnsafeManifest,
    VerifyMode,
    check_manifest,
    manifest_sha256,
)
from msp_model_service.weights.checking import Checker
from msp_model_service.weights.fetch_errors import NotYet, Refused
from support.servers import free_port
from support.worker_host import FILES, Host, running_host
from support.worker_registries import COMMIT, FakeModelRegistry, manifest_file


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with running_host(tmp_path) as host:
        yield host


def test_a_snapshot_arrives_whole_and_its_marker_names_the_manifest(host: Host) -> None:
    snapshot = host.fetch()
    assert (snapshot.folder, snapshot.commit, snapshot.note) == (host.folder, COMMIT, None)
    assert host.held() == FILES
    marker = json.loads((host.folder / ".complete").read_text())
    assert marker["manifest_sha256"] == manifest_sha256(host.registry.manifest())
    assert not (host.folder / ".partial").exists()


def test_progress_is_told_in_bytes_up_to_the_whole(host: Host) -> None:
    host.fetch()
    total = sum(map(len, FILES.values()))
    done = [news[1] for news in host.progress if news[0].startswith("fetching")]
    assert done == sorted(done)
    assert host.progress[-1][1:] == (total, total)


def test_addresses_may_be_absolute(host: Host) -> None:
    host.registry.absolute_urls_for = set(FILES)
    host.fetch()
    assert host.held() == FILES


@pytest.mark.parametrize("wrong", [b"y" * 300_000, b"y" * 300_001])
def test_wrong_bytes_are_refused_by_name_and_never_get_a_name_on_disk(host: Host, wrong: bytes) -> None:
    host.registry.files["model.safetensors"] = wrong
    with pytest.raises(Refused, match=r"model\.safetensors has .*; its manifest says 300000 bytes"):
        host.fetch()
    assert not (host.folder / "model.safetensors").exists()
    assert not (host.folder / ".complete").exists()


def test_a_file_that_ends_early_is_waited_for(host: Host) -> None:
    host.registry.files["model.safetensors"] = FILES["model.safetensors"][:-1]
    with pytest.raises(NotYet, match=r"model\.safetensors ended after 299999 of 300000 bytes"):
        host.fetch()


def test_a_running_worker_keeps_its_snapshot_from_being_deleted(host: Host) -> None:
    snapshot = host.fetch()
    with (host.cache / "org" / "model" / f".{COMMIT}.in-use").open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        snapshot.release()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_complete_snapshot_is_not_fetched_again(host: Host) -> None:
    host.fetch().release()
    host.registry.asked.clear()
    host.fetch()
    assert host.registry.asked == []


def test_a_corrupt_file_in_the_cache_is_named_and_fetched_again(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    running = host.fetch()
    (host.folder / "model.safetensors").write_bytes(b"z" * 300_000)
    host.registry.asked.clear()
    host.fetch()
    assert host.registry.asked == [("model.safetensors", 0)]
    assert host.held() == FILES
    assert "model.safetensors in the cache failed verification" in caplog.text
    running.release()


@pytest.mark.parametrize(
    ("verify", "damage", "fetched"),
    [
        ("size", b"z" * 300_000, False),
        ("size", b"z", True),
        ("full", b"z" * 300_000, True),
        ("off", b"z", False),
    ],
)
def test_how_much_is_verified_is_a_setting(
    host: Host, verify: VerifyMode, damage: bytes, fetched: bool
) -> None:
    host.fetch().release()
    (host.folder / "model.safetensors").write_bytes(damage)
    host.registry.asked.clear()
    host.fetch(verify)
    assert bool(host.registry.asked) is fetched


@pytest.mark.parametrize("verify", ["full", "size", "off"])
def test_whatever_is_verified_a_sound_copy_is_used_as_it_is(host: Host, verify: VerifyMode) -> None:
    host.fetch(verify).release()
    host.registry.asked.clear()
    assert host.fetch(verify).folder == host.folder
    assert host.registry.asked == []
    assert host.held() == FILES


def test_one_flipped_bit_in_the_cache_is_found_and_only_that_file_fetched_again(host: Host) -> None:
    host.fetch().release()
    damaged = bytearray(FILES["model.safetensors"])
    damaged[200_000] ^= 0x10
    (host.folder / "model.safetensors").write_bytes(damaged)
    host.registry.asked.clear()
    host.fetch()
    assert host.registry.asked == [("model.safetensors", 0)]
    assert host.held() == FILES


def test_while_a_worker_waits_nothing_is_hashed_twice_unless_it_changed(host: Host) -> None:
    host.fetch().release()
    folder, manifest = SnapshotFolder(host.cache, "org/model", COMMIT), host.registry.manifest()
    checker = Checker("full")

    def wrong() -> list[str]:
        files = checker.wrong_files(folder, manifest, manifest.files, lambda *news: None, threading.Event())
        return [file.path for file in files]

    assert wrong() == []
    before = (folder.path / "model.safetensors").stat()
    (folder.path / "model.safetensors").write_bytes(b"z" * 300_000)
    os.utime(folder.path / "model.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert wrong() == []  # nothing shows that somebody wrote: it was not read again
    (folder.path / "config.json").write_bytes(b"x" * len(FILES["config.json"]))
    assert wrong() == ["config.json"]


def test_a_quarantined_file_is_waited_for_and_the_remedy_is_said(host: Host) -> None:
    host.registry.quarantined = {"model.safetensors": "SHA-256 differs"}
    with pytest.raises(
        NotYet,
        match=r"not serve model\.safetensors of org/model.*SHA-256 differs.*`msp models verify org/model`",
    ):
        host.fetch()
    assert host.registry.asked == []
    host.registry.quarantined = {}
    host.fetch()
    assert host.held() == FILES


def test_a_sound_copy_in_the_cache_is_used_although_the_registry_has_lost_its_own(host: Host) -> None:
    host.fetch().release()
    host.registry.quarantined = {"model.safetensors": "SHA-256 differs"}
    assert host.fetch().folder == host.folder
    (host.folder / "model.safetensors").write_bytes(b"z" * 300_000)
    with pytest.raises(NotYet, match="`msp models verify org/model`"):
        host.fetch()


def test_what_an_earlier_manifest_of_the_same_commit_held_is_removed(host: Host) -> None:
    host.fetch().release()
    host.registry.manifest_files = [f for f in host.registry.manifest_files if f.path != "empty.txt"]
    host.registry.files["more.json"] = b"[]"
    host.registry.manifest_files.append(manifest_file("more.json", b"[]"))
    host.registry.asked.clear()
    host.fetch()
    assert host.registry.asked == [("more.json", 0)]
    assert set(host.held()) == {*FILES, "more.json"} - {"empty.txt"}


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "a//b",
        "./a",
        "a/.",
        "",
        "a\0b",
        "a\\..\\b",
        "a\nb",
        ".complete",
        ".partial/x",
        "x" * 300,
    ],
)
def test_a_manifest_with_a_hostile_path_is_refused_before_the_disk_is_touched(host: Host, path: str) -> None:
    hostile = manifest_file(path, b"evil")
    host.registry.manifest_files.append(hostile)
    with pytest.raises(Refused, match="is no safe file name"):
        host.fetch()
    assert list(host.cache.iterdir()) == []


def test_a_manifest_must_be_what_it_seems_to_be() -> None:
    def refused(**changes: object) -> str:
        manifest = FakeModelRegistry(FILES).manifest().model_copy(update=changes)
        with pytest.raises(UnsafeManifest) as caught:
            check_manifest(manifest)
        return str(caught.value)

    one = manifest_file("a", b"x")
    assert "not 40 hex digits" in refused(commit="../" + "a" * 37)
    assert "listed twice" in refused(files=[one, one])
    assert "both a file and a folder" in refused(files=[one, manifest_file("a/b", b"y")])
    assert "SHA-256" in refused(files=[one.model_copy(update={"sha256": "../x"})])
    assert "size -1" in refused(files=[one.model_copy(update={"size_bytes": -1})])


def test_a_model_that_the_registry_does_not_hold_is_waited_for_and_how_to_bring_it_is_said(
    host: Host,
) -> None:
    host.registry.absent = True
    with pytest.raises(
        NotYet, match=rf"no org/model at revision main; .*POST {host.url}/models/org/model/download"
    ):
        host.fetch()


def test_without_the_registry_a_complete_copy_is_used_and_that_is_said(host: Host) -> None:
    host.fetch().release()
    nowhere = f"http://127.0.0.1:{free_port()}"
    snapshot = host.fetch(url=nowhere)
    assert snapshot.folder == host.folder
    assert snapshot.note is not None
    assert nowhere in snapshot.note
    assert f"serving the copy in the cache, commit {COMMIT}" in snapshot.note
    assert host.fetch(url=nowhere, revision=COMMIT).folder == host.folder


def test_a_registry_that_cannot_answer_counts_as_away(host: Host) -> None:
    host.fetch().release()
    host.registry.down = True
    assert host.fetch().note is not None


def test_without_the_registry_nothing_unverified_is_used(host: Host) -> None:
    host.registry.down = True
    with pytest.raises(NotYet, match="the cache holds no complete copy of org/model at main"):
        host.fetch()
    host.registry.down = False
    host.fetch().release()
    (host.folder / "config.json").write_bytes(b"{}")
    host.registry.down = True
    with pytest.raises(NotYet, match=r"config\.json must be fetched again"):
        host.fetch()
    (host.folder / ".complete").write_text("{}")
    with pytest.raises(NotYet, match="no complete copy"):
        host.fetch()


def test_a_cache_that_cannot_be_written_is_refused_by_name(host: Host, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    host.cache = blocked
    with pytest.raises(Refused, match=rf"the cache folder {blocked} cannot be used: .*running as user"):
        host.fetch()


def test_another_program_behind_the_registrys_address_is_recognised(host: Host) -> None:
    host.registry.app.router.routes.clear()
    host.registry.app.add_api_route("/models/{name:path}", lambda name: {"hello": "world"})
    with pytest.raises(Refused, match="is REGISTRY_URL right"):
        host.fetch()
