"""Files into a store: in parts, in any order, within the window, resumed, and never wrong ones."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from msp_common.contracts.models import ManifestFile
from msp_registry.failures import HubUnreachable, WrongBytes
from msp_registry.hub.selection import RemoteFile
from msp_registry.layout import file_key, upload_key
from msp_registry.stores.store import Part, StoreUnavailable
from msp_registry.transfers.file_source import RangesIgnored
from msp_registry.transfers.transfer import Transfer
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress

REPO, COMMIT = "org/tiny", "c0ffee" * 6 + "abcd"
PART = 1000


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def remote(path: str, data: bytes, *, lfs: bool = True) -> RemoteFile:
    if lfs:
        return RemoteFile(path, len(data), git_sha1=None, sha256=hashlib.sha256(data).hexdigest())
    header = b"blob %d\0" % len(data)
    return RemoteFile(path, len(data), git_sha1=hashlib.sha1(header + data).hexdigest(), sha256=None)


class Source:
    """Files to read, with a memory; `before` runs ahead of each piece, `alter` changes its bytes."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.asked: list[tuple[str, int, int]] = []
        self.at_once = self.most_at_once = 0
        self.before: Callable[[str, int], Awaitable[None]] | None = None
        self.alter: Callable[[str, int, bytes], bytes] = lambda path, offset, data: data

    def remote(self) -> list[RemoteFile]:
        return [remote(path, data) for path, data in self.files.items()]

    async def read(self, file: RemoteFile, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        self.asked.append((file.path, offset, length))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.before is not None:
                await self.before(file.path, offset)
            data = self.alter(file.path, offset, self.files[file.path][offset : offset + length])
            for start in range(0, len(data), 300):
                await asyncio.sleep(0)
                yield data[start : start + 300]
        finally:
            self.at_once -= 1

    def offsets(self, path: str) -> list[int]:
        return sorted(offset for asked, offset, _ in self.asked if asked == path)


class NotingStore(MemoryStore):
    """Tells when a part is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.part_stored = asyncio.Semaphore(0)

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        part = await super().put_part(key, upload_id, number, data)
        self.part_stored.release()
        return part


class Transferring:
    """A transfer of a source into a store in memory, with tiny parts."""

    def __init__(self, source: Source, store: NotingStore | None = None, **limits: int) -> None:
        self.source = source
        self.store = store or NotingStore()
        self.progress = ToldProgress()
        limits.setdefault("window_bytes", 8 * PART)
        self.transfer = Transfer(self.store, part_bytes_of=lambda size: PART, **limits)

    async def run(
        self, *, sequential: bool = False, replace: bool = False, attempts: int = 1
    ) -> list[ManifestFile]:
        files = self.source.remote()
        self.progress = ToldProgress()
        self.progress.expect([(file.path, file.size_bytes) for file in files])
        return await self.transfer.store_all(
            REPO,
            COMMIT,
            files,
            self.source.read,
            self.progress,
            sequential=sequential,
            replace=replace,
            attempts=attempts,
        )

    def stored(self, path: str) -> bytes | None:
        return self.store.objects.get(file_key(REPO, COMMIT, path))

    def assert_whole(self) -> None:
        for path, data in self.source.files.items():
            assert self.stored(path) == data
        assert self.store.pending == {}
        assert [key for key in self.store.objects if "/uploads/" in key] == []
        assert self.progress.bytes_done == sum(map(len, self.source.files.values()))
        assert sorted(self.progress.done) == sorted(self.source.files)

    def assert_nothing_of(self, path: str) -> None:
        assert self.stored(path) is None
        assert self.store.pending == {}
        assert upload_key(REPO, COMMIT, path) not in self.store.objects


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 10 * PART, 10 * PART + 7])
async def test_a_file_of_any_size_arrives_with_both_hashes(size: int, sequential: bool) -> None:
    data = noise(size)
    run = Transferring(Source(a=data))
    (entry,) = await run.run(sequential=sequential)
    run.assert_whole()
    assert (entry.path, entry.size_bytes, entry.lfs) == ("a", size, True)
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    assert entry.git_sha1 == hashlib.sha1(b"blob %d\0" % size + data).hexdigest()


async def test_many_tiny_files_arrive_and_are_told_in_the_order_asked_for() -> None:
    run = Transferring(Source(**{f"f{n}": noise(n % 5, n) for n in range(1000)}))
    entries = await run.run()
    run.assert_whole()
    assert [entry.path for entry in entries] == list(run.source.files)
    assert run.source.most_at_once <= 4


async def test_parts_are_read_side_by_side_up_to_the_limit_of_all_transfers_together() -> None:
    source = Source(a=noise(20 * PART), b=noise(20 * PART, 2))
    run = Transferring(source, parallel_parts=3, window_bytes=100 * PART)
    other = Source(c=noise(20 * PART, 3))
    other.files |= source.files
    await asyncio.gather(
        run.run(),
        run.transfer.store_all("org/other", COMMIT, source.remote(), source.read, ToldProgress()),
    )
    run.assert_whole()
    assert source.most_at_once == 3


@pytest.mark.parametrize("seed", range(8))
async def test_no_more_than_the_window_is_held_whatever_the_order_of_parts(seed: int) -> None:
    """Reads and writes finish in a random order; a part counts from its read until it is stored."""
    chance = random.Random(seed)
    source = Source(a=noise(30 * PART), b=noise(25 * PART + 3, 2), c=noise(10, 3), d=noise(12 * PART, 4))
    held: Counter[tuple[str, int]] = Counter()
    most = 0

    async def dawdle() -> None:
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)

    async def before(path: str, offset: int) -> None:
        nonlocal most
        held[path, offset] = min(PART, len(source.files[path]) - offset)
        most = max(most, held.total())
        await dawdle()

    class Slow(NotingStore):
        async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
            await dawdle()
            part = await super().put_part(key, upload_id, number, data)
            del held[key.rsplit("/", 1)[-1], (number - 1) * PART]
            return part

        async def put(self, key: str, data: bytes) -> None:
            await super().put(key, data)
            held.pop((key.rsplit("/", 1)[-1], 0), None)

    source.before = before
    run = Transferring(source, Slow(), window_bytes=5 * PART, parallel_parts=4)
    await asyncio.wait_for(run.run(), 20)
    run.assert_whole()
    assert 3 * PART < most <= 5 * PART


async def test_large_files_take_turns() -> None:
    run = Transferring(Source(a=noise(30 * PART), b=noise(30 * PART, 2)), window_bytes=2 * PART)
    await run.run()
    run.assert_whole()
    assert "b" in [path for path, _, _ in run.source.asked[:6]]


async def test_a_late_first_part_holds_back_the_hash_but_not_the_other_parts() -> None:
    source = Source(a=noise(6 * PART))
    others_read = asyncio.Event()

    async def before(path: str, offset: int) -> None:
        if offset == 0:
            await others_read.wait()
        elif offset == 5 * PART:
            others_read.set()

    source.before = before
    run = Transferring(source)
    await asyncio.wait_for(run.run(), 20)
    run.assert_whole()


async def test_files_that_all_wait_for_their_first_part_do_not_lock_each_other_up() -> None:
    """Each first part comes only when nothing else can move any more."""
    source = Source(**{name: noise(9 * PART, ord(name)) for name in "abcd"})

    async def before(path: str, offset: int) -> None:
        if offset == 0:
            for _ in range(200):
                await asyncio.sleep(0)

    source.before = before
    run = Transferring(source, window_bytes=4 * PART)
    await asyncio.wait_for(run.run(), 20)
    run.assert_whole()


async def test_a_part_larger_than_the_window_still_comes() -> None:
    run = Transferring(Source(a=noise(3 * PART)), window_bytes=PART // 2)
    await asyncio.wait_for(run.run(), 20)
    run.assert_whole()


async def broken_off(run: Transferring, at: int) -> None:
    """A first run that brings the parts of `a` before `at`, and then fails."""

    async def before(path: str, offset: int) -> None:
        if path == "a" and offset == at:
            for _ in range(at // PART):
                await run.store.part_stored.acquire()
            raise HubUnreachable("the line is cut")
        if path == "a" and offset > at:
            await asyncio.Event().wait()

    run.source.before = before
    with pytest.raises(HubUnreachable, match="the line is cut"):
        await run.run()
    run.source.before = None
    run.source.asked.clear()


async def test_after_a_break_only_the_missing_parts_are_read() -> None:
    run = Transferring(Source(a=noise(10 * PART + 5), b=noise(10, 2)))
    await broken_off(run, 6 * PART)
    assert run.stored("a") is None
    again = Transferring(run.source, run.store)
    await again.run()
    again.assert_whole()
    assert run.source.offsets("a") == [PART * n for n in (6, 7, 8, 9, 10)]
    assert again.progress.resumed_bytes["a"] == 6 * PART


async def test_a_resumed_file_is_read_back_since_stored_parts_may_have_rotted() -> None:
    run = Transferring(Source(a=noise(10 * PART)))
    await broken_off(run, 6 * PART)
    (upload,) = run.store.pending.values()
    upload.parts[2] = bytes(PART)
    with pytest.raises(WrongBytes, match="sha256 is"):
        await run.run()
    run.assert_nothing_of("a")
    await run.run()
    run.assert_whole()


async def test_a_resumed_file_with_a_rotten_part_comes_from_zero_in_a_second_attempt() -> None:
    run = Transferring(Source(a=noise(10 * PART)))
    await broken_off(run, 6 * PART)
    (upload,) = run.store.pending.values()
    upload.parts[2] = bytes(PART)
    await run.run(attempts=2)
    run.assert_whole()
    assert run.progress.moved_bytes["a"] == 10 * PART


async def test_an_upload_that_the_store_no_longer_knows_begins_anew() -> None:
    run = Transferring(Source(a=noise(10 * PART)))
    await broken_off(run, 6 * PART)
    run.store.pending.clear()
    await run.run()
    run.assert_whole()
    assert len(run.source.offsets("a")) == 10


async def test_an_upload_that_is_aborted_meanwhile_begins_anew() -> None:
    source = Source(a=noise(10 * PART))
    run = Transferring(source)

    async def before(path: str, offset: int) -> None:
        if offset == 4 * PART:
            run.store.pending.clear()
            source.before = None

    source.before = before
    await run.run()
    run.assert_whole()
    assert run.progress.moved_bytes["a"] == 10 * PART


async def test_the_record_of_another_size_is_not_used_and_its_upload_is_aborted() -> None:
    run = Transferring(Source(a=noise(10 * PART)))
    await broken_off(run, 6 * PART)
    run.source.files["a"] = noise(12 * PART, 7)
    await run.run()
    run.assert_whole()
    assert len(run.source.offsets("a")) == 12


async def test_a_damaged_record_begins_anew() -> None:
    run = Transferring(Source(a=noise(10 * PART)))
    await broken_off(run, 6 * PART)
    run.store.objects[upload_key(REPO, COMMIT, "a")] = b"{"
    run.store.pending.clear()
    await run.run()
    run.assert_whole()


async def test_what_is_stored_whole_is_hashed_and_not_read() -> None:
    run = Transferring(Source(a=noise(10 * PART), b=noise(10, 2)))
    first = await run.run()
    run.source.asked.clear()
    assert await run.run() == first
    assert run.source.asked == []
    run.assert_whole()
    assert run.progress.moved_bytes["a"] == 10 * PART


@pytest.mark.parametrize("size", [10, 10 * PART])
async def test_an_object_with_other_bytes_is_replaced(size: int) -> None:
    run = Transferring(Source(a=noise(size)))
    run.store.objects[file_key(REPO, COMMIT, "a")] = bytes(size)
    await run.run()
    run.assert_whole()
    assert run.progress.moved_bytes["a"] == size


async def test_a_bad_file_that_is_replaced_stays_until_the_right_one_is_whole() -> None:
    run = Transferring(Source(a=noise(10 * PART)))
    key = file_key(REPO, COMMIT, "a")
    run.store.objects[key] = bytes(10 * PART)
    seen = []

    async def before(path: str, offset: int) -> None:
        seen.append(key in run.store.objects)

    run.source.before = before
    await run.run(replace=True)
    run.assert_whole()
    assert all(seen)
    assert run.store.deletes.count(key) == 0


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("size", [10, PART, 10 * PART])
async def test_wrong_bytes_leave_nothing_under_the_key(size: int, sequential: bool) -> None:
    run = Transferring(Source(a=noise(size)))
    key = file_key(REPO, COMMIT, "a")
    run.source.alter = lambda path, offset, data: bytes([data[0] ^ 1]) + data[1:] if offset == 0 else data
    with pytest.raises(WrongBytes, match="sha256 is"):
        await run.run(sequential=sequential)
    run.assert_nothing_of("a")
    assert key not in run.store.puts
    assert run.progress.done == []


@pytest.mark.parametrize("size", [10, 10 * PART])
async def test_wrong_bytes_are_fetched_once_more_when_a_second_attempt_is_allowed(size: int) -> None:
    run = Transferring(Source(a=noise(size)))
    wrong = [True]

    def alter(path: str, offset: int, data: bytes) -> bytes:
        return bytes(len(data)) if offset == 0 and wrong and wrong.pop() else data

    run.source.alter = alter
    await run.run(attempts=2)
    run.assert_whole()
    assert run.progress.moved_bytes["a"] == size


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("size", [10, 10 * PART])
@pytest.mark.parametrize("change", [-1, 1])
async def test_more_or_fewer_bytes_than_announced_are_wrong(size: int, sequential: bool, change: int) -> None:
    run = Transferring(Source(a=noise(size)))
    run.source.alter = lambda path, offset, data: data + b"!" if change > 0 else data[:-1]
    with pytest.raises(WrongBytes):
        await run.run(sequential=sequential)
    assert run.stored("a") is None


async def test_a_source_that_knows_no_ranges_is_read_front_to_back_in_one_go() -> None:
    run = Transferring(Source(a=noise(10 * PART), b=noise(7, 2)))

    async def before(path: str, offset: int) -> None:
        if run.source.asked[-1][2] == PART:
            raise RangesIgnored(path)

    run.source.before = before
    await run.run()
    run.assert_whole()
    assert ("a", 0, 10 * PART) in run.source.asked
    assert run.progress.moved_bytes["a"] == 10 * PART


async def test_in_sequence_each_file_is_read_once_and_one_after_the_other() -> None:
    run = Transferring(Source(a=noise(10 * PART + 1), b=b"", c=noise(5, 2), d=noise(9 * PART, 3)))
    await run.run(sequential=True)
    run.assert_whole()
    assert run.source.asked == [(path, 0, len(data)) for path, data in run.source.files.items()]
    assert run.source.most_at_once == 1


@pytest.mark.parametrize("sequential", [False, True])
async def test_a_slow_stream_holds_no_more_of_the_window_than_it_has_read(sequential: bool) -> None:
    """Its other parts cannot be read yet: to hold room for them would only keep it from others."""
    slow, begun, go_on = Source(a=noise(30 * PART)), asyncio.Event(), asyncio.Event()

    async def before(path: str, offset: int) -> None:
        if slow.asked[-1][2] == PART:
            raise RangesIgnored(path)
        begun.set()
        await go_on.wait()

    slow.before = before
    run = Transferring(slow, window_bytes=4 * PART)
    streaming = asyncio.create_task(run.run(sequential=sequential))
    await begun.wait()
    other = Source(b=noise(10 * PART, 2))
    bringing = run.transfer.store_all("org/other", COMMIT, other.remote(), other.read, ToldProgress())
    await asyncio.wait_for(bringing, 20)
    go_on.set()
    await streaming
    run.assert_whole()


async def test_a_sequence_goes_on_after_the_files_that_are_whole() -> None:
    run = Transferring(Source(a=noise(3 * PART), b=noise(10 * PART, 2)))

    async def before(path: str, offset: int) -> None:
        if path == "b":
            raise HubUnreachable("the line is cut")

    run.source.before = before
    with pytest.raises(HubUnreachable):
        await run.run(sequential=True)
    run.source.before = None
    run.source.asked.clear()
    await run.run(sequential=True)
    run.assert_whole()
    assert run.source.asked == [("b", 0, 10 * PART)]


async def test_a_store_that_goes_away_ends_the_transfer_with_its_own_error() -> None:
    run = Transferring(Source(a=noise(10 * PART)))

    async def before(path: str, offset: int) -> None:
        run.store.down = offset >= 4 * PART

    run.source.before = before
    with pytest.raises(StoreUnavailable, match="the store is down"):
        await run.run()
    run.store.down = False
    run.source.before = None
    await run.run()
    run.assert_whole()


async def test_a_lost_answer_to_the_completion_is_no_failure() -> None:
    class Forgetful(NotingStore):
        async def complete_upload(self, key: str, upload_id: str, parts: object) -> None:
            await super().complete_upload(key, upload_id, parts)  # type: ignore[arg-type]
            await super().complete_upload(key, upload_id, parts)  # type: ignore[arg-type]

    run = Transferring(Source(a=noise(10 * PART)), Forgetful())
    await run.run()
    run.assert_whole()
    assert len(run.source.offsets("a")) == 10


@pytest.mark.parametrize("moment", range(0, 400, 13))
async def test_a_cancelled_transfer_leaves_no_tasks_and_gives_its_shares_back(moment: int) -> None:
    source = Source(a=noise(30 * PART), b=noise(8 * PART, 2), c=noise(10, 3))
    run = Transferring(source, window_bytes=3 * PART, parallel_parts=2)
    before = asyncio.all_tasks()
    task = asyncio.create_task(run.run())
    for _ in range(moment):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asyncio.all_tasks() == before
    assert source.at_once == 0
    # Whatever was lost of the window or of the reads would stop the second run.
    await asyncio.wait_for(run.run(), 20)
    run.assert_whole()
