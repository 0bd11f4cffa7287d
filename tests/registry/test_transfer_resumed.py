"""Files of which a part, or all, is in the store already."""

import asyncio

import pytest

from msp_registry.failures import HubUnreachable, WrongBytes
from msp_registry.layout import file_key, upload_key
from support.registry_transferring import COMMIT, PART, REPO, Source, Transferring, noise


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
