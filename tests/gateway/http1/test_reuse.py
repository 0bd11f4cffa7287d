"""Which connections carry a second request, and what happens when one had died meanwhile."""

import asyncio

import pytest

from msp_gateway.batched_writes import WriteBatch
from msp_gateway.http1.connection import Connection
from msp_gateway.http1.origin import Origin
from msp_gateway.http1.pool import IDLE_S, MAX_IDLE, Pool
from msp_gateway.upstream import UpstreamReset
from support.http1_talk import ask, http1, post
from support.raw_worker import Line, answer, answers, raw_worker

OK = answer(b"ok")

AT_ONCE_S = IDLE_S * 0.6
"""Before a connection would be closed for having waited too long."""


async def test_requests_follow_each_other_on_one_connection() -> None:
    async with raw_worker(answers(*[OK] * 5)) as worker, http1() as client:
        for _ in range(5):
            assert await ask(client, worker.url) == (200, b"ok")
    assert (worker.connections, len(worker.requests)) == (1, 5)


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    both = asyncio.Barrier(2)

    async def together(line: Line) -> None:
        for _ in range(2):
            await line.request()
            await both.wait()
            await line.say(OK)
        await line.left()

    async with raw_worker(together) as worker, http1() as client:
        for _ in range(2):
            await asyncio.gather(ask(client, worker.url), ask(client, worker.url))
    assert (worker.connections, len(worker.requests)) == (2, 4)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(answer(b"ok", b"Connection: close"), id="announced"),
        pytest.param(OK.replace(b"1.1", b"1.0"), id="HTTP/1.0"),
        pytest.param(OK + OK, id="two answers to one request"),
    ],
)
async def test_a_connection_that_must_not_be_used_again_is_closed(first: bytes) -> None:
    async with raw_worker(answers(first), answers(OK)) as worker, http1() as client:
        assert await ask(client, worker.url) == (200, b"ok")
        await asyncio.wait_for(worker.served[0].wait(), AT_ONCE_S)
        assert await ask(client, worker.url) == (200, b"ok")
    assert worker.connections == 2


async def test_a_second_answer_is_never_given_to_the_next_request() -> None:
    """What a worker says unasked belongs to nobody, above all not to another client."""
    go = asyncio.Event()

    async def speaks_unasked(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await go.wait()
        await line.say(answer(b"somebody's secret"))
        await line.left()

    async with raw_worker(speaks_unasked, answers(OK)) as worker, http1() as client:
        assert await ask(client, worker.url) == (200, b"ok")
        go.set()
        await asyncio.wait_for(worker.served[0].wait(), AT_ONCE_S)
        assert await ask(client, worker.url) == (200, b"ok")


async def test_a_connection_that_the_worker_closed_while_idle_is_forgotten() -> None:
    async def closes_after_one(line: Line) -> None:
        await line.request()
        await line.say(OK)

    async with raw_worker(closes_after_one) as worker, http1() as client:
        for number in range(3):
            assert await ask(client, worker.url) == (200, b"ok")
            await worker.served[number].wait()
            assert await ask(client, worker.url) == (200, b"ok")
            await worker.served[number].wait()


async def dies_on_the_second(line: Line) -> None:
    """One good answer; the next request is read, and the connection closed without a word."""
    await line.request()
    await line.say(OK)
    await line.reader.readuntil(b"\r\n\r\n")


async def test_a_request_on_a_connection_that_had_died_goes_out_again_on_a_fresh_one() -> None:
    async with raw_worker(dies_on_the_second, answers(OK)) as worker, http1() as client:
        assert await ask(client, worker.url) == (200, b"ok")
        assert await ask(client, worker.url, b"again") == (200, b"ok")
    assert worker.connections == 2
    assert worker.requests[1].endswith(b"again")


async def test_it_goes_out_again_once_only() -> None:
    async def dies(line: Line) -> None:
        await line.request()

    async with raw_worker(dies_on_the_second, dies) as worker, http1() as client:
        await ask(client, worker.url)
        with pytest.raises(UpstreamReset):
            await ask(client, worker.url)
    assert worker.connections == 2


async def test_a_worker_that_cannot_be_reached_again_may_have_died_of_the_request() -> None:
    """So it is no refusal, after which everybody else would be asked."""

    async def dies_with_its_server(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await line.reader.readuntil(b"\r\n\r\n")
        stop.set()
        await stopped.wait()

    stop, stopped = asyncio.Event(), asyncio.Event()
    async with http1() as client:
        worker_context = raw_worker(dies_with_its_server)
        worker = await worker_context.__aenter__()
        assert await ask(client, worker.url) == (200, b"ok")
        asking = asyncio.create_task(ask(client, worker.url))
        await stop.wait()
        await worker_context.__aexit__(None, None, None)
        with pytest.raises(UpstreamReset, match="a fresh one"):
            await asking


async def test_a_break_after_the_first_byte_is_never_repeated() -> None:
    async def breaks_off(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await line.request()
        await line.say(b"H")

    async with raw_worker(breaks_off, answers(OK)) as worker, http1() as client:
        await ask(client, worker.url)
        with pytest.raises(UpstreamReset):
            await ask(client, worker.url)
    assert worker.connections == 1


async def test_an_answer_that_was_not_read_to_its_end_ends_its_connection() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"
    async with raw_worker(answers(endless), answers(OK)) as worker, http1() as client:
        response = await client.open(post(worker.url))
        assert await response.read() == b"x"
        response.close()
        await asyncio.wait_for(worker.served[0].wait(), AT_ONCE_S)
        assert await ask(client, worker.url) == (200, b"ok")


class Wire(asyncio.Transport):
    """A transport that only knows what was written and whether it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.ended = asyncio.Event()
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True
        self.ended.set()


def connection(loop: asyncio.AbstractEventLoop) -> tuple[Connection, Wire]:
    made, wire = Connection(loop, lambda lost: None, WriteBatch()), Wire()
    made.connection_made(wire)
    return made, wire


HERE, THERE = Origin(False, "here", 80), Origin(False, "there", 80)


async def test_the_pool_gives_the_connection_used_last_and_only_for_its_own_server() -> None:
    pool, loop = Pool(), asyncio.get_running_loop()
    old, new = connection(loop)[0], connection(loop)[0]
    pool.put(HERE, old, loop)
    pool.put(HERE, new, loop)
    assert pool.take(THERE, loop.time()) is None
    assert pool.take(HERE, loop.time()) is new
    assert pool.take(HERE, loop.time()) is old
    assert pool.take(HERE, loop.time()) is None
    pool.close()


async def test_the_pool_closes_what_waited_too_long_and_what_is_too_many() -> None:
    pool, loop = Pool(), asyncio.get_running_loop()
    made = [connection(loop) for _ in range(MAX_IDLE + 1)]
    for one, _ in made:
        pool.put(HERE, one, loop)
    assert (len(pool), made[-1][1].closed, made[0][1].closed) == (MAX_IDLE, True, False)
    assert pool.take(HERE, loop.time() + IDLE_S) is None
    assert all(wire.closed for _, wire in made)
    pool.close()


async def test_the_pool_gives_no_connection_that_is_closing() -> None:
    pool, loop = Pool(), asyncio.get_running_loop()
    one, wire = connection(loop)
    pool.put(HERE, one, loop)
    wire.closed = True
    assert pool.take(HERE, loop.time()) is None
    pool.close()


async def test_the_pool_closes_what_waits_too_long_without_being_asked() -> None:
    pool, loop = Pool(idle_s=0.05), asyncio.get_running_loop()
    one, wire = connection(loop)
    pool.put(HERE, one, loop)
    await asyncio.wait_for(wire.ended.wait(), 5)
    assert len(pool) == 0


async def test_a_closed_pool_keeps_nothing_open() -> None:
    pool, loop = Pool(), asyncio.get_running_loop()
    one, wire = connection(loop)
    pool.put(HERE, one, loop)
    pool.close()
    assert wire.closed


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_what_was_given_up_while_its_connection_was_being_made_is_never_sent() -> None:
    loop = asyncio.get_running_loop()
    for leaves in (False, True):
        being_made, wire = Connection(loop, lambda lost: None, WriteBatch()), Wire()
        task = loop.create_task(for_ever())
        being_made.made_by(task)
        being_made.begin()
        being_made.write_whole([b"POST"])
        if leaves:
            assert not being_made.release()
        # The event loop may have had this in hand when the task was cancelled.
        being_made.connection_made(wire)
        assert wire.written == ([] if leaves else [b"POST"])
        await asyncio.sleep(0)
        assert task.cancelled() == leaves
        task.cancel()
