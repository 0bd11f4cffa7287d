"""Memory that pieces of files get once more."""

import asyncio

from msp_registry.transfers.piece_memory import PieceBuffer, PieceMemory


async def test_a_buffer_that_was_given_back_is_taken_again_and_is_empty() -> None:
    memory = PieceMemory(2)
    first = memory.take(4)
    first.add(b"abcd")
    memory.give_back(first)
    again = memory.take(4)
    assert again is first
    assert again.size == 0
    again.add(b"efgh")
    assert again.value() == b"efgh"


async def test_what_somebody_still_holds_stays_as_it_is() -> None:
    memory = PieceMemory(2)
    first = memory.take(4000)
    first.add(b"a" * 4000)
    held = first.value()
    memory.give_back(first)
    memory.take(4000).add(b"b" * 4000)
    assert held == b"a" * 4000


async def test_a_buffer_serves_no_piece_of_another_length() -> None:
    memory = PieceMemory(2)
    memory.give_back(PieceBuffer(4))
    other = memory.take(3)
    other.add(b"abc")
    assert other.value() == b"abc"
    assert memory.kept_bytes == 4


async def test_of_too_many_the_one_that_lies_longest_goes() -> None:
    memory = PieceMemory(2)
    for length in (5, 3, 4):
        memory.give_back(PieceBuffer(length))
    assert memory.kept_bytes == 7


async def test_what_nobody_asks_for_is_not_kept() -> None:
    memory = PieceMemory(2, idle_s=0)
    memory.give_back(PieceBuffer(4))
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, later.set)
    await later.wait()
    assert memory.kept_bytes == 0
