"""An answer's head and what follows it, on their way to the socket."""

import asyncio
from collections.abc import Iterable

from msp_common.joined_writes import LARGE_BYTES, JoinedWrites


class FakeTransport(asyncio.Transport):
    """Remembers what is written, and in which order it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[object] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.done.append(bytes(data))

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        self.done.append([bytes(part) for part in parts])

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.done.append("closed")


class Cycle:
    """One answer."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport


def begun() -> tuple[FakeTransport, JoinedWrites, Cycle]:
    """An answer that begins."""
    transport = FakeTransport()
    joined, cycle = JoinedWrites(transport, asyncio.get_running_loop()), Cycle(transport)
    joined.begin(cycle)
    return transport, joined, cycle


async def test_head_and_body_are_one_write_and_what_follows_goes_straight_on() -> None:
    transport, _, cycle = begun()
    cycle.transport.write(b"head ")
    cycle.transport.write(b"body")
    assert cycle.transport is transport
    cycle.transport.write(b"more")
    await asyncio.sleep(0)
    assert transport.done == [b"head body", b"more"]


async def test_a_head_that_nothing_follows_waits_for_one_turn_of_the_loop_only() -> None:
    transport, _, cycle = begun()
    cycle.transport.write(b"head")
    assert transport.done == []
    await asyncio.sleep(0)
    assert transport.done == [b"head"]


async def test_a_large_body_is_not_copied() -> None:
    transport, _, cycle = begun()
    cycle.transport.write(b"head")
    cycle.transport.write(bytes(LARGE_BYTES))
    assert transport.done == [[b"head", bytes(LARGE_BYTES)]]


async def test_a_head_goes_out_before_the_connection_is_closed_or_the_next_answer_begins() -> None:
    transport, joined, cycle = begun()
    cycle.transport.write(b"first")
    other = Cycle(transport)
    joined.begin(other)
    other.transport.write(b"second")
    other.transport.close()
    await asyncio.sleep(0)
    assert transport.done == [b"first", b"second", "closed"]


async def test_nothing_is_written_to_a_connection_that_was_closed_meanwhile() -> None:
    transport, _, cycle = begun()
    cycle.transport.write(b"head")
    transport.closing = True
    await asyncio.sleep(0)
    assert transport.done == []
