"""Files come in ranges, several at once; what is whole stays whole across breaks and kills."""

import hashlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msp_model_service.weights.cache import Stopped
from msp_model_service.weights.fetch_errors import NotYet, Refused
from msp_model_service.weights.fetching import PARALLEL, Span, in_order, rounds, spans_of
from msp_model_service.weights.model_source import RegistrySource
from msp_model_service.weights.partial_file import PartialFile
from msp_model_service.weights.weights import Snapshot
from support.servers import run_server
from support.worker_host import FILES, Host, running_host
from support.worker_registries import FakeModelRegistry, manifest_file

RANGE = 10_000
WEIGHTS = "model.safetensors"
"""Of 300 000 bytes: thirty ranges."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with running_host(tmp_path) as host:
        host.range_bytes = RANGE
        yield host


# The plan.


def test_ranges_cover_a_file_without_gap_or_overlap() -> None:
    assert spans_of(25, 10) == [Span(0, 10), Span(10, 20), Span(20, 25)]
    assert spans_of(20, 10) == [Span(0, 10), Span(10, 20)]
    assert spans_of(0, 10) == []


def test_large_files_come_first_a_few_side_by_side_and_each_in_order() -> None:
    assert in_order([1, 3, 0, 2]) == [(1, 0), (3, 0), (0, 0), (1, 1), (3, 1), (1, 2)]
    order = in_order([2] * 6)
    assert order[:8] == [(file, index) for index in (0, 1) for file in range(4)]
    assert sorted(order) == [(file, index) for file in range(6) for index in (0, 1)]


def test_files_of_equal_content_are_not_on_their_way_together() -> None:
    files = [manifest_file("a", b"x"), manifest_file("b", b"x"), manifest_file("c", b"y")]
    assert [[f.path for f in group] for group in rounds(files)] == [["a", "c"], ["b"]]


def test_equal_files_all_arrive(tmp_path: Path) -> None:
    files = {"a": b"same", "b/a": b"same", "c": b"", "d": b""}
    with running_host(tmp_path, files) as host:
        host.fetch()
        assert host.held() == files


# Ranges.


def test_a_large_file_is_asked_for_in_ranges_and_each_is_fetched_once(host: Host) -> None:
    host.fetch()
    assert host.held() == FILES
    ranges = sorted(start for name, start in host.registry.asked if name == WEIGHTS)
    assert ranges == list(range(0, 300_000, RANGE))
    assert host.registry.served_bytes == sum(map(len, FILES.values()))


def test_several_ranges_are_on_their_way_at_once(host: Host) -> None:
    host.registry.hold.clear()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(host.fetch)
        host.registry.wait_asked(PARALLEL)
        host.registry.hold.set()
        fetching.result(20)
    assert host.held() == FILES


def test_a_range_that_broke_off_goes_on_where_it_ended(host: Host) -> None:
    host.registry.cut_after[WEIGHTS] = 4_000
    host.fetch()
    starts = [start for name, start in host.registry.asked if name == WEIGHTS]
    assert len([start for start in starts if start % RANGE == 4_000]) == 1
    assert host.held() == FILES


def test_after_a_failure_whole_ranges_are_not_fetched_again(host: Host) -> None:
    host.registry.fails_at = {(WEIGHTS, 290_000)}
    with pytest.raises(NotYet, match=r"model\.safetensors ended after 290000 of 300000 bytes: answered 503"):
        host.fetch()
    assert not (host.folder / ".complete").exists()
    assert not (host.folder / WEIGHTS).exists()
    host.registry.fails_at.clear()
    host.registry.asked.clear()
    host.fetch()
    assert [start for name, start in host.registry.asked if name == WEIGHTS] == [290_000]
    assert host.held() == FILES


def test_of_a_damaged_partial_file_only_the_damaged_range_is_fetched_again(host: Host) -> None:
    host.registry.fails_at = {(WEIGHTS, 290_000)}
    with pytest.raises(NotYet):
        host.fetch()
    with partial(host).open("r+b") as file:
        file.seek(123_456)
        file.write(b"\0rot\0")
    host.registry.fails_at.clear()
    host.registry.asked.clear()
    host.fetch()
    assert sorted(start for name, start in host.registry.asked if name == WEIGHTS) == [120_000, 290_000]
    assert host.held() == FILES


def test_a_partial_file_without_a_note_counts_for_nothing(host: Host) -> None:
    host.registry.fails_at = {(WEIGHTS, 290_000)}
    with pytest.raises(NotYet):
        host.fetch()
    note = partial(host).with_name(partial(host).name + ".ranges")
    note.write_text("0 " + note.read_text())
    host.registry.fails_at.clear()
    host.registry.asked.clear()
    host.fetch()
    assert len([name for name, _ in host.registry.asked if name == WEIGHTS]) == 30
    assert host.held() == FILES


@pytest.mark.parametrize("whole_before", [False, True])
def test_a_server_that_ignores_ranges_is_read_from_the_start(host: Host, whole_before: bool) -> None:
    if whole_before:
        host.registry.fails_at = {(WEIGHTS, 290_000)}
        with pytest.raises(NotYet):
            host.fetch()
        host.registry.fails_at.clear()
    host.registry.ignores_ranges = True
    host.fetch()
    assert host.held() == FILES


def test_a_line_of_the_note_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    def opened() -> PartialFile:
        file = PartialFile(tmp_path / "file", 30, 10)
        file.open(lambda n: None, threading.Event())
        return file

    note = tmp_path / "file.ranges"
    file = opened()
    file.write(b"a" * 30, 0)
    for index in range(3):
        assert file.settle(index, 0x4C11CDF0)
    assert not file.settle(1, 0x4C11CDF0)
    file.close()
    assert opened().whole == {0, 1, 2}
    note.write_text(note.read_text()[:-1])
    file = opened()
    assert file.whole == {0, 1}
    assert file.settle(2, 0x4C11CDF0)
    file.close()
    assert opened().whole == {0, 1, 2}


# Wrong bytes.


def test_bytes_that_were_wrong_on_the_way_are_fetched_once_more(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.registry.files[WEIGHTS] = b"y" * 300_000
    right = threading.Event()

    def listen(what: str, done: int, total: int) -> None:
        # The count goes back when the file is thrown away: from then on the way is clean.
        if host.progress and done < host.progress[-1][1] and not right.is_set():
            right.set()
            host.registry.files[WEIGHTS] = FILES[WEIGHTS]
        host.progress.append((what, done, total))

    source = RegistrySource(host.url)
    host.weights(source).fetch("org/model", "main", listen, host.stop)
    assert host.held() == FILES
    assert "model.safetensors has SHA-256" in caplog.text
    assert host.progress[-1][1] == host.progress[-1][2]
    source.close()


@pytest.mark.parametrize("wrong", [b"y" * 300_000, b"y" * 300_001])
def test_wrong_bytes_never_get_a_name_on_disk(host: Host, wrong: bytes) -> None:
    host.registry.files[WEIGHTS] = wrong
    with pytest.raises(Refused, match=r"model\.safetensors has .*; its manifest says 300000 bytes"):
        host.fetch()
    assert not (host.folder / WEIGHTS).exists()
    assert not (host.folder / ".complete").exists()


# Several workers, and ends.


def test_two_workers_on_one_cache_download_once(host: Host) -> None:
    host.registry.hold.clear()
    waiting = threading.Event()

    def worker() -> Snapshot:
        source = RegistrySource(host.url)
        try:
            return host.weights(source).fetch("org/model", "main", listen, host.stop)
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
    assert host.registry.served_bytes == sum(map(len, FILES.values()))


WORKER = """
import sys, threading
from pathlib import Path
from msp_model_service.weights.cache_room import CacheRoom
from msp_model_service.weights.checking import Checker
from msp_model_service.weights.model_source import RegistrySource
from msp_model_service.weights.weights import CachedWeights
url, cache, range_bytes = sys.argv[1:]
weights = CachedWeights(
    RegistrySource(url), CacheRoom(Path(cache)), Checker("full"), range_bytes=int(range_bytes)
)
tell = lambda what, done, total: print(what, flush=True)
print("done", weights.fetch("org/model", "main", tell, threading.Event()).commit, flush=True)
"""


def worker_process(host: Host) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, host.url, str(host.cache), str(RANGE)],
        stdout=subprocess.PIPE,
        text=True,
    )


def until_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said: {said}")


def test_two_processes_that_start_at_once_download_once(host: Host) -> None:
    host.registry.hold.clear()
    one = worker_process(host)
    host.registry.wait_asked(1)
    with one, worker_process(host) as two:
        until_line(two, "another worker")
        host.registry.hold.set()
        for process in (one, two):
            until_line(process, "done")
            assert process.wait(20) == 0
    assert host.registry.served_bytes == sum(map(len, FILES.values()))


def test_a_killed_worker_s_whole_ranges_are_not_fetched_again(host: Host) -> None:
    # Each of its threads asks for the next range once the last is noted: with this many requests come, and
    # one unanswered for each thread, all that were answered are noted.
    answered = 12
    host.registry.hold.clear()
    host.registry.answers_before_hold = answered
    with worker_process(host) as killed:
        host.registry.wait_asked(answered + PARALLEL)
        killed.send_signal(signal.SIGKILL)
    known = set(host.registry.asked[:answered])
    host.registry.hold.set()
    host.registry.asked.clear()
    host.fetch()
    assert not known & {(name, start) for name, start in host.registry.asked if name == WEIGHTS}
    expected = 30 - len([start for name, start in known if name == WEIGHTS])
    assert len([name for name, _ in host.registry.asked if name == WEIGHTS]) == expected
    assert host.held() == FILES


def test_ending_the_worker_ends_the_download_at_once_and_keeps_what_arrived(host: Host) -> None:
    host.registry.hold.clear()
    host.registry.answers_before_hold = 12
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(host.fetch)
        host.registry.wait_asked(12 + PARALLEL)
        host.stop.set()
        with pytest.raises(Stopped):
            fetching.result(5)  # the answers are still held: nothing but the break can end it
    host.registry.hold.set()
    host.stop.clear()
    host.registry.asked.clear()
    host.fetch()
    assert len([name for name, _ in host.registry.asked if name == WEIGHTS]) < 30
    assert host.held() == FILES


def test_a_redirect_is_followed(host: Host) -> None:
    store = FakeModelRegistry(FILES)
    with run_server(store.app) as elsewhere:
        host.registry.redirect_to = elsewhere
        host.fetch()
    assert host.held() == FILES
    assert host.registry.served_bytes == 0


def partial(host: Host) -> Path:
    return host.folder / ".partial" / hashlib.sha256(FILES[WEIGHTS]).hexdigest()
