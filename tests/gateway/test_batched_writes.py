"""Writes of one turn of the event loop."""

import asyncio

from msp_gateway.batched_writes import LARGE_BYTES, TOGETHER, WriteBatch


class Wire(asyncio.Transport):
    """A transport that notes what is asked of it, beside what others note."""

    def __init__(self, seen: list[str], name: str) -> None:
        super().__init__()
        self._seen, self._name = seen, name
        self.closing = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.closing
        self._seen.append(f"{self._name} {data[:9].decode()}")

    def close(self) -> None:
        self._seen.append(f"{self._name} closes")
        self.closing = True

    def abort(self) -> None:
        self._seen.append(f"{self._name} aborts")
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0


class Table:
    """Transports with one batch over them."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.batch = WriteBatch()

    def wire(self, name: str) -> asyncio.Transport:
        return self.batch.over(Wire(self.seen, name))


async def turn() -> None:
    """Let the loop's next turn come."""
    await asyncio.sleep(0)


async def test_what_is_written_first_is_sent_at_once_and_the_rest_at_the_turns_end() -> None:
    table = Table()
    one, two, three = (table.wire(name) for name in ("one", "two", "three"))
    one.write(b"a")
    table.batch.begin()
    two.write(b"b")
    three.write(b"c")
    assert table.seen == ["one a"]
    await turn()
    assert table.seen == ["one a", "two b", "three c"]
    two.write(b"d")
    assert table.seen[-1] == "two d"


async def test_what_begins_twice_ends_once() -> None:
    table = Table()
    one = table.wire("one")
    table.batch.begin()
    table.batch.begin()
    one.write(b"a")
    await turn()
    table.batch.begin()
    one.write(b"b")
    assert table.seen == ["one a"]
    await turn()
    assert table.seen == ["one a", "one b"]


async def test_one_connections_writes_keep_their_order() -> None:
    table = Table()
    one = table.wire("one")
    table.batch.begin()
    for data in (b"a", b"b", b"c"):
        one.write(data)
    await turn()
    assert table.seen == ["one a", "one b", "one c"]


async def test_no_more_than_so_many_wait_for_each_other() -> None:
    table = Table()
    table.batch.begin()
    for number in range(TOGETHER + 1):
        table.wire(str(number)).write(b"a")
    assert table.seen == [f"{number} a" for number in range(TOGETHER)]
    await turn()
    assert table.seen[-1] == f"{TOGETHER} a"


async def test_what_is_large_is_sent_at_once_behind_what_was_written_before() -> None:
    table = Table()
    one = table.wire("one")
    table.batch.begin()
    one.write(b"a")
    one.write(b"x" * LARGE_BYTES)
    assert table.seen == ["one a", "one xxxxxxxxx"]


async def test_what_was_written_goes_out_before_the_connection_closes() -> None:
    table = Table()
    one = table.wire("one")
    table.batch.begin()
    one.write(b"a")
    one.close()
    await turn()
    assert table.seen == ["one a", "one closes"]


async def test_an_aborted_connection_sends_nothing_more() -> None:
    table = Table()
    one, two = table.wire("one"), table.wire("two")
    table.batch.begin()
    one.write(b"a")
    two.write(b"b")
    one.abort()
    await turn()
    assert table.seen == ["one aborts", "two b"]


async def test_a_connection_that_ended_meanwhile_costs_the_others_nothing() -> None:
    table = Table()
    lost, kept = Wire(table.seen, "lost"), table.wire("kept")
    table.batch.begin()
    table.batch.over(lost).write(b"a")
    kept.write(b"b")
    lost.closing = True
    await turn()
    assert table.seen == ["kept b"]


async def test_whatever_else_is_asked_comes_behind_what_was_written() -> None:
    table = Table()
    one = table.wire("one")
    table.batch.begin()
    one.write(b"a")
    assert one.get_write_buffer_size() == 0
    assert table.seen == ["one a"]
