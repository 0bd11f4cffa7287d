"""Files into a store: in parts, in any order, within the window, and never wrong ones."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from msp_registry.failures import WrongBytes
from msp_registry.hub.selection import RemoteFile
from msp_registry.layout import file_key
from msp_registry.stores.store import Part, StoreUnavailable
from msp_registry.transfers.file_source import FrontToBack, RangesIgnored
from msp_registry.transfers.piece_memory import PieceMemory
from support.registry_progress import ToldProgress
from support.registry_transferring import COMMIT, PART, REPO, NotingStore, Source, Transferring, noise


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


@pytest.mark.parametrize("size", [PART, 3 * PART + 7])
async def test_of_a_file_known_by_its_sha256_the_git_hash_is_taken_as_it_is(size: int) -> None:
    source = Source(a=noise(size))
    (file,) = source.remote()
    for sequential in (False, True):
        run = Transferring(source)
        known = replace(file, git_sha1="0" * 40, sha256_suffices=True)
        (entry,) = await run.transfer.store_all(
            REPO, COMMIT, [known], source.read, ToldProgress(), sequential=sequential
        )
        assert (entry.sha256, entry.git_sha1) == (file.sha256, "0" * 40)
        (again,) = await run.transfer.store_all(REPO, COMMIT, [known], source.read, ToldProgress())
        assert again == entry
    wrong = replace(known, sha256="0" * 64)
    with pytest.raises(WrongBytes, match="sha256"):
        await Transferring(source).transfer.store_all(REPO, COMMIT, [wrong], source.read, ToldProgress())


async def test_of_a_stream_no_more_than_a_few_parts_are_on_their_way_to_the_store() -> None:
    at_once = most = 0

    class Slow(NotingStore):
        async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            for _ in range(100):
                await asyncio.sleep(0)
            at_once -= 1
            return await super().put_part(key, upload_id, number, data)

    run = Transferring(Source(a=noise(30 * PART)), Slow(), window_bytes=100 * PART)
    await run.run(sequential=True)
    run.assert_whole()
    assert most == 4


async def test_a_piece_that_is_given_back_lends_its_memory_unless_somebody_holds_it() -> None:
    data = noise(4 * PART)

    async def stream() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(data), 300):
            yield data[start : start + 300]

    whole = FrontToBack(RemoteFile("a", len(data), None, None), stream(), lambda _: None, PieceMemory(2))
    first = await whole.take(0, PART)
    whole.give_back(first)
    second = await whole.take(PART, PART)
    assert (first, second) == (data[:PART], data[PART : 2 * PART])
    whole.give_back(second)
    place = id(second)
    del second
    third = await whole.take(2 * PART, PART)
    assert id(third) == place
    assert third == data[2 * PART : 3 * PART]
