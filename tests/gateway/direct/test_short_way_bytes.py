"""Whatever way a worker's bytes are cut, and however slowly the client reads: it gets the worker's body."""

import asyncio
import http.client
import io
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from msp_gateway.accounting import Accounts
from msp_gateway.batched_writes import WriteBatch
from msp_gateway.calls import Call, Candidate
from msp_gateway.direct.exchange import Exchange
from msp_gateway.direct.ordinary import Ordinary
from msp_gateway.head import JsonRequest
from msp_gateway.http1.connection import Connection
from msp_gateway.pipeline import Begun, Passage
from msp_gateway.record import Record
from msp_gateway.relay import Relay
from msp_gateway.replicas import Replicas
from msp_gateway.stalls import Limits, Progress
from msp_gateway.watchdog import Watchdog
from support.fake_worker import Exchange as Asked
from support.fake_worker import answers_with_model
from support.gateway_clients import settled_metrics
from support.gateway_cluster import FakeReports, GatewayClock, worker
from support.gateway_timers import FakeTimers
from support.gateway_upstream import FakeUpstream
from support.kept_worker import KeptWorker
from support.raw_http import wire_to
from support.short_way import short_gateway, warm

PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}"
Framing = Literal["chunked", "length", "close"]


class Side:
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.reads = True
        self.ended = False
        self.full: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.written += data
        self.full()

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.written += b"".join(parts)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def close(self) -> None:
        self.ended = True

    abort = close

    def is_closing(self) -> bool:
        return self.ended

    def get_extra_info(self, name: str) -> None:
        return None


class Books:
    """What stands around an exchange, and counts that each part is closed once."""

    def __init__(self) -> None:
        self.replicas = Replicas(5, GatewayClock())
        self.timers = FakeTimers()
        watchdog = Watchdog(Limits(5, 5), lambda worker_id: Progress.UNKNOWN, lambda: self.timers)
        accounts = Accounts(CollectorRegistry(), lambda: 0.0)
        self.relay = Relay(FakeUpstream(), self.replicas, FakeReports(), watchdog, worker, accounts)
        self.closed: list[str] = []
        self.fields = ()

    def close(self, passage: Passage) -> None:
        self.closed.append("passage")

    def give_back(self) -> None:
        self.closed.append("place")


class Table:
    """One exchange between two transports."""

    def __init__(self) -> None:
        self.client, self.server, self.books = Side(), Side(), Books()
        self.flow = FlowControl(cast(asyncio.Transport, self.client))
        self.handed: list[Ordinary] = []
        self.answered = 0
        self.connection = Connection(asyncio.get_running_loop(), lambda connection: None, WriteBatch())
        self.connection.connection_made(cast(asyncio.Transport, self.server))
        self.connection.begin()
        self.connection.write([b"request"], last=True)
        self.books.replicas.started("one")
        call = Call("/v1/chat/completions", (), JsonRequest([b"{}"]))
        passage = cast(Passage, type("P", (), {"record": Record("req_1", call.path, 0.0)}))
        books = cast(Any, self.books)
        self.exchange = Exchange(
            books,
            passage,
            books,
            Begun(call, [Candidate(worker("one"))]),
            cast(Any, self),
            self._cycle(),
            self.handed.append,
            lambda exchange: None,
        )

    def _cycle(self) -> RequestResponseCycle:
        nobody = cast(Any, None)
        return RequestResponseCycle(
            scope=cast(Any, {"method": "POST"}),
            transport=cast(asyncio.Transport, self.client),
            flow=self.flow,
            logger=nobody,
            access_logger=nobody,
            access_log=False,
            default_headers=[(b"date", b"now")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self._count,
        )

    def _count(self) -> None:
        self.answered += 1

    def close(self) -> None:
        """As of `Sent`."""
        self.books.closed.append("sent")
        self.connection.release()

    def reads_again(self) -> None:
        """The client takes more."""
        self.flow.resume_writing()
        if not self.over:
            self.exchange.client_reads_on()

    @property
    def over(self) -> bool:
        return bool(self.answered or self.handed)

    def feed(self, pieces: Sequence[bytes], stops: Sequence[bool]) -> None:
        """The worker says this; at some of the pieces the client stops reading until the next."""
        for piece, stop in zip(pieces, stops, strict=True):
            if stop:
                self.flow.pause_writing()
            self.connection.data_received(piece)
            self.reads_again()

    def ends(self, error: Exception | None) -> None:
        """The worker's connection ends."""
        self.connection.connection_lost(error)


class _Socket:
    def __init__(self, said: bytes) -> None:
        self._said = said

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._said)


def read(said: bytes) -> bytes:
    """The body of one whole answer, by a reader that is not ours. Raises IncompleteRead."""
    answer = http.client.HTTPResponse(cast(Any, _Socket(said)))
    answer.begin()
    body = answer.read()
    assert answer.read1() == b""
    return body


def framed(body: bytes, framing: Framing, events: bool, sizes: Sequence[int]) -> bytes:
    kind = b"text/event-stream" if events else b"application/json"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n"
    if framing == "length":
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    if framing == "close":
        return head + b"\r\n" + body
    said, at, turn = head + b"transfer-encoding: chunked\r\n\r\n", 0, 0
    while at < len(body):
        part = body[at : at + sizes[turn % len(sizes)]]
        said += b"%x\r\n%s\r\n" % (len(part), part)
        at, turn = at + len(part), turn + 1
    return said + b"0\r\n\r\n"


def cut(said: bytes, places: Sequence[float]) -> list[bytes]:
    at = sorted({0, *(int(place * len(said)) for place in places)})
    return [said[a:b] for a, b in zip(at, [*at[1:], len(said)], strict=True) if a < b]


TEXTS = st.lists(st.text("ab\n é", max_size=20).map(lambda text: text.replace("\n\n", "\n")), max_size=6)
SHAPES = {
    "texts": TEXTS,
    "ends": st.sampled_from(["\n\n", "\r\n\r\n"]),
    "tail": st.sampled_from(["", "data: [DONE]\n\n", "data: half"]),
    "framing": st.sampled_from(["chunked", "length", "close"]),
    "events": st.booleans(),
    "sizes": st.lists(st.integers(1, 40), min_size=1, max_size=5),
    "places": st.lists(st.floats(0, 1, exclude_max=True), max_size=12),
    "seed": st.randoms(use_true_random=False),
}


def body_of(texts: Sequence[str], ends: str, tail: str) -> bytes:
    return ("".join(f"data: {text}{ends}" for text in texts) + tail).encode()


@settings(max_examples=150, deadline=None)
@given(**SHAPES)
def test_a_body_is_passed_on_byte_for_byte(
    texts: list[str],
    ends: str,
    tail: str,
    framing: Framing,
    events: bool,
    sizes: list[int],
    places: list[float],
    seed: Random,
) -> None:
    body = body_of(texts, ends, tail)
    pieces = cut(framed(body, framing, events, sizes), places)

    async def passes() -> Table:
        table = Table()
        table.feed(pieces, [seed.random() < 0.3 for _ in pieces])
        if framing == "close":
            assert not table.over
            table.ends(None)
        return table

    table = asyncio.run(passes())
    assert (table.answered, table.handed) == (1, [])
    assert sorted(table.books.closed) == ["passage", "place", "sent"]
    assert table.books.replicas.in_flight == {}
    assert read(table.client.written) == body


@settings(max_examples=150, deadline=None)
@given(**SHAPES, broken=st.floats(0, 1, exclude_max=True))
def test_what_breaks_off_is_given_on_in_whole_events_and_never_ended(
    texts: list[str],
    ends: str,
    tail: str,
    framing: Framing,
    events: bool,
    sizes: list[int],
    places: list[float],
    seed: Random,
    broken: float,
) -> None:
    body = body_of([*texts, "last"], ends, tail)
    whole = framed(body, framing, events, sizes)
    pieces = cut(whole[: max(1, int(broken * len(whole)))], places)

    async def breaks() -> Table:
        table = Table()
        table.feed(pieces, [seed.random() < 0.3 for _ in pieces])
        table.ends(ConnectionResetError("gone"))
        return table

    table = asyncio.run(breaks())
    assert (table.answered, len(table.handed)) == (0, 1)
    assert not table.client.written.endswith(b"0\r\n\r\n")
    if not table.client.written:
        return
    # As much of the worker's body as came, in events.
    passed = read(table.client.written + b"0\r\n\r\n") if framing != "length" else b""
    if framing == "length":
        passed = table.client.written.partition(b"\r\n\r\n")[2]
    assert body.startswith(passed)
    if events and framing == "chunked":
        assert passed == b"" or passed.endswith((b"\n\n", b"\r\n\r\n"))


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n"


async def test_a_client_that_takes_nothing_is_not_taken_for_a_worker_that_stands() -> None:
    table = Table()
    table.connection.data_received(STREAM)
    table.flow.pause_writing()
    table.connection.data_received(b"data: 2\n\n")
    table.books.timers.advance(100)
    await asyncio.sleep(0)
    table.reads_again()
    assert table.client.written.endswith(b"data: 2\n\n\r\n")
    assert not table.over


@pytest.mark.parametrize("slow", ["never", "before an event", "by an event"])
async def test_a_worker_that_stands_is_given_up_whether_or_not_its_client_was_slow(slow: str) -> None:
    table = Table()
    table.connection.data_received(STREAM)
    if slow != "never":
        if slow == "by an event":
            table.client.full = table.flow.pause_writing
        else:
            table.flow.pause_writing()
        table.connection.data_received(b"data: 2\n\n")
        assert table.flow.write_paused
        table.client.full = lambda: None
        table.reads_again()
    table.books.timers.advance(100)
    await asyncio.sleep(0)
    assert len(table.handed) == 1


async def test_a_slow_reader_gets_a_long_answer_byte_for_byte() -> None:
    seed = Random(7)
    body = seed.randbytes(24_000_000)  # more than all buffers of the kernel between both ends
    held_back = asyncio.Event()

    async def long(exchange: Asked) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        at = 0
        while at < len(body):
            size = seed.randrange(1, 300_000)
            exchange.raw(body[at : at + size])
            at += size
            try:
                async with asyncio.timeout(0.5):
                    await exchange.writer.drain()
            except TimeoutError:
                held_back.set()
                await exchange.writer.drain()

    async with KeptWorker(answers_with_model, long, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await wire.say(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}"
                )
                await asyncio.wait_for(held_back.wait(), 20)
                wire.reader._transport.resume_reading()  # type: ignore[attr-defined]
                status, _, got = await wire.answer()
                assert gateway.taken == (1, 0)
                await wire.say(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}"
                )
                assert (await wire.answer())[0] == 200
                assert gateway.taken == (2, 0)
            await settled_metrics(gateway)
    assert status == 200
    assert got == body
    assert one.connections == 1
