"""When the cache is full, what nobody uses goes, longest unused first; what somebody uses never does."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from msp_model_service.weights.cache import SnapshotFolder
from msp_model_service.weights.cache_room import taken_bytes
from msp_model_service.weights.eviction import Held, Room, to_evict
from msp_model_service.weights.fetch_errors import NotYet
from support.worker_host import FILES, Host, running_host
from support.worker_registries import FakeModelRegistry

# The decision.

OLD = Held("old", 100, last_used=1, in_use=False)
NEWER = Held("newer", 100, last_used=2, in_use=False)
BUSY = Held("busy", 100, last_used=0, in_use=True)
ALL = [NEWER, BUSY, OLD]


def chosen(room: Room) -> list[str] | None:
    evicted = to_evict(ALL, room)
    return None if evicted is None else [one.name for one in evicted]


def test_nothing_goes_while_everything_fits() -> None:
    assert chosen(Room(need_bytes=50, free_bytes=50)) == []
    assert chosen(Room(need_bytes=50, free_bytes=50, own_bytes=10, limit_bytes=360)) == []
    assert chosen(Room(need_bytes=0, free_bytes=0)) == []


def test_a_full_disk_takes_the_longest_unused_and_no_more_than_needed() -> None:
    assert chosen(Room(need_bytes=150, free_bytes=50)) == ["old"]
    assert chosen(Room(need_bytes=151, free_bytes=50)) == ["old", "newer"]


def test_a_limit_counts_what_is_held_what_is_needed_and_what_is_there_of_the_model_itself() -> None:
    assert chosen(Room(need_bytes=50, free_bytes=10**9, own_bytes=10, limit_bytes=359)) == ["old"]
    assert chosen(Room(need_bytes=50, free_bytes=10**9, own_bytes=10, limit_bytes=160)) == ["old", "newer"]


def test_the_narrower_of_disk_and_limit_decides() -> None:
    assert chosen(Room(need_bytes=250, free_bytes=50, limit_bytes=10**9)) == ["old", "newer"]


def test_where_even_all_would_not_do_nothing_goes() -> None:
    assert chosen(Room(need_bytes=251, free_bytes=50)) is None
    assert chosen(Room(need_bytes=50, free_bytes=10**9, limit_bytes=149)) is None


def test_what_takes_no_room_stays() -> None:
    empty = Held("empty", 0, last_used=0, in_use=False)
    assert to_evict([empty, OLD], Room(need_bytes=1, free_bytes=0)) == [OLD]


# The cache.


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with running_host(tmp_path) as host:
        yield host


def other(host: Host, name: str, last_used: float, *, complete: bool = True) -> SnapshotFolder:
    """Another model's snapshot of about 100 kB in the cache."""
    registry = FakeModelRegistry({"weights": os.urandom(100_000)}, name)
    folder = SnapshotFolder(host.cache, registry.model_id, registry.commit)
    if complete:
        folder.path.mkdir(parents=True)
        (folder.path / "weights").write_bytes(registry.files["weights"])
        (folder.path / ".partial").mkdir()
        folder.finish(registry.manifest())
    else:
        (folder.path / ".partial").mkdir(parents=True)
        folder.partial(registry.manifest_files[0]).write_bytes(registry.files["weights"])
    folder.touch()
    os.utime(folder.repo / f".{folder.commit}.last-used", (last_used, last_used))
    return folder


def test_a_disk_without_room_loses_the_longest_unused_and_says_so(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    newer, old = other(host, "org/newer", 2000), other(host, "org/old", 1000)
    host.free_bytes = 250_000
    host.fetch()
    assert host.held() == FILES
    assert (newer.path.exists(), old.path.exists()) == (True, False)
    assert f"deleting org/old/{old.commit} from the cache to make room" in caplog.text
    assert old.manifest() is None


def test_the_limit_is_kept(host: Host) -> None:
    folders = [other(host, f"org/model-{n}", 1000 + n) for n in range(3)]
    host.limit_bytes = 450_000
    host.fetch()
    assert [folder.path.exists() for folder in folders] == [False, False, True]
    assert taken_bytes(host.cache) <= host.limit_bytes + 20_000  # notes and markers


def test_a_part_of_another_model_counts_and_goes_too(host: Host) -> None:
    part = other(host, "org/part", 1000, complete=False)
    host.limit_bytes = 350_000
    host.fetch()
    assert not part.path.exists()


def test_a_model_whose_id_has_one_part_counts_and_goes_too(host: Host) -> None:
    bare = other(host, "bare", 1000)
    host.limit_bytes = 350_000
    host.fetch()
    assert not bare.path.exists()


def test_what_a_worker_uses_stays_and_both_numbers_are_said(host: Host) -> None:
    used = other(host, "org/used", 1000)
    lock = used.in_use()
    lock.acquire(exclusive=False, stop=threading.Event(), on_wait=lambda: None)
    host.free_bytes = 250_000
    with pytest.raises(
        NotYet, match=rf"300024 bytes are still .* only 250000 are free .*in use: org/used/{used.commit}"
    ):
        host.fetch()
    assert used.manifest() is not None
    lock.release()
    host.fetch()
    assert not used.path.exists()


def test_a_limit_that_cannot_be_kept_is_named_with_both_numbers_and_nothing_is_deleted(host: Host) -> None:
    idle = other(host, "org/idle", 1000)
    host.limit_bytes = 200_000
    with pytest.raises(NotYet, match=r"300024 bytes are still .* of the 200000 bytes of MODEL_CACHE_LIMIT_B"):
        host.fetch()
    assert idle.manifest() is not None


def test_what_is_being_filled_never_goes(host: Host) -> None:
    host.range_bytes = 10_000
    host.registry.fails_at = {("model.safetensors", 290_000)}
    with pytest.raises(NotYet):
        host.fetch()
    host.registry.fails_at.clear()
    host.limit_bytes = 1000
    with pytest.raises(NotYet, match="of the 1000 bytes of MODEL_CACHE_LIMIT_BYTES"):
        host.fetch()
    host.limit_bytes = None
    host.free_bytes = 0  # its room is allocated already: nothing more is needed
    host.registry.asked.clear()
    host.fetch()
    assert [start for name, start in host.registry.asked if name == "model.safetensors"] == [290_000]
    assert host.held() == FILES


def test_taking_a_snapshot_and_letting_it_go_is_noted(host: Host) -> None:
    snapshot = host.fetch()
    folder = SnapshotFolder(host.cache, "org/model", snapshot.commit)
    note = folder.repo / f".{folder.commit}.last-used"
    os.utime(note, (1000, 1000))
    assert folder.last_used() == 1000
    snapshot.release()
    assert folder.last_used() > 1000
    os.utime(note, (1000, 1000))
    host.fetch().release()
    assert folder.last_used() > 1000
