"""Files arrive whole and verified, once per host, whatever happens on the way."""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from msp_model_service.cache import Stopped, UnsafeManifest, VerifyMode, check_manifest, manifest_sha256
from msp_model_service.model_source import NotYet, Refused, RegistrySource
from msp_model_service.weights import CachedWeights, Snapshot
from support.servers import free_port, run_server
from support.worker_registries import COMMIT, FakeModelRegistry, manifest_file

FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": os.urandom(300_000),
    "1_Pooling/config.json": b"{}",
    "empty.txt": b"",
}


@dataclass
class Host:
    """A machine with a cache, and a registry that it can reach."""

    cache: Path
    url: str
    registry: FakeModelRegistry
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def fetch(self, verify: VerifyMode = "full", revision: str = "main", url: str | None = None) -> Snapshot:
        source = RegistrySource(url or self.url)
        try:
            weights = CachedWeights(source, self.cache, verify)
            return weights.fetch("org/model", revision, lambda *news: self.progress.append(news), self.stop)
        finally:
            source.close()

    @property
    def folder(self) -> Path:
        return self.cache / "org" / "model" / COMMIT

    def held(self) -> dict[str, bytes]:
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for p in self.folder.rglob("*")
            if p.is_file() and p.name != ".complete"
        }


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    registry = FakeModelRegistry(FILES)
    with run_server(registry.app) as url:
        yield Host(tmp_path, url, registry)


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


def test_a_file_that_broke_off_goes_on_where_it_ended(host: Host) -> None:
    host.registry.cut_after["model.safetensors"] = 120_000
    with pytest.raises(NotYet, match=r"model\.safetensors"):
        host.fetch()
    assert not (host.folder / ".complete").exists()
    host.registry.asked.clear()
    host.fetch()
    assert host.registry.asked == [
        ("model.safetensors", 120_000),
        ("1_Pooling/config.json", 0),
    ]
    assert host.held() == FILES


def test_a_server_that_ignores_ranges_is_read_from_the_start(host: Host) -> None:
    host.registry.cut_after["model.safetensors"] = 120_000
    with pytest.raises(NotYet):
        host.fetch()
    host.registry.ignores_ranges = True
    host.fetch()
    assert host.held() == FILES


def test_a_damaged_partial_file_is_thrown_away_and_fetched_again(host: Host) -> None:
    host.registry.cut_after["model.safetensors"] = 120_000
    with pytest.raises(NotYet):
        host.fetch()
    [partial] = [p for p in (host.folder / ".partial").iterdir() if p.stat().st_size]
    partial.write_bytes(b"x" * 120_000)
    host.registry.asked.clear()
    host.fetch()
    assert [a for a in host.registry.asked if a[0] == "model.safetensors"] == [
        ("model.safetensors", 120_000),
        ("model.safetensors", 0),
    ]
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


def test_two_workers_on_one_cache_download_once(host: Host) -> None:
    host.registry.hold.clear()
    waiting = threading.Event()

    def worker() -> Snapshot:
        source = RegistrySource(host.url)
        try:
            return CachedWeights(source, host.cache, "full").fetch("org/model", "main", listen, host.stop)
        finally:
            source.close()

    def listen(what: str, done: int, total: int) -> None:
        if "another worker" in what:
            waiting.set()

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(worker), pool.submit(worker)]
        assert waiting.wait(10)
        host.registry.hold.set()
        snapshots = [one.result(20) for one in both]
    assert {s.folder for s in snapshots} == {host.folder}
    assert sorted(name for name, _ in host.registry.asked) == sorted(n for n in FILES if FILES[n])


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


def test_ending_the_worker_ends_the_download_and_keeps_what_arrived(host: Host) -> None:
    host.registry.hold.clear()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(host.fetch)
        with contextlib.suppress(TimeoutError):
            fetching.result(0.2)
        host.stop.set()
        host.registry.hold.set()
        with pytest.raises(Stopped):
            fetching.result(10)
    host.stop.clear()
    assert hashlib.sha256(host.fetch().folder.joinpath("model.safetensors").read_bytes()).digest()


def test_another_program_behind_the_registrys_address_is_recognised(host: Host) -> None:
    host.registry.app.router.routes.clear()
    host.registry.app.add_api_route("/models/{name:path}", lambda name: {"hello": "world"})
    with pytest.raises(Refused, match="is REGISTRY_URL right"):
        host.fetch()
