"""Clients that leave, or do not read, while their requests are on the short way."""

import asyncio
import gc
import time

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from msp_common.contracts.workers import WorkerLoad
from msp_gateway.admission import Ask, OpenPlace, Place
from support.fake_worker import (
    Behaviour,
    Exchange,
    answers_with_model,
    event,
    stalls,
    stalls_in_stream,
    start_stream,
)
from support.gateway_clients import CHAT, post, settled_metrics
from support.gateway_cluster import LLM, worker
from support.kept_worker import KeptWorker
from support.raw_http import Wire, wire_to
from support.short_way import ShortCluster, short_gateway, warm

LEAVING_S = 0.5
"""Within which a worker must know that its client left: at once, and what a loaded machine adds."""
BODY = b'{"model": "org/chat", "messages": []}'
PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
LABELS = f'key="anonymous",model="{LLM}",path="/v1/chat/completions"'


class Counted:
    """Lets everybody in, and counts who is inside."""

    def __init__(self) -> None:
        self.inside = self.came = 0

    def admit(self, ask: Ask) -> Place:
        self.inside += 1
        self.came += 1
        return _Place(self)


class _Place(OpenPlace):
    def __init__(self, counted: Counted) -> None:
        self._counted = counted

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        self._counted.inside -= 1


async def nothing_is_left(gateway: ShortCluster) -> str:
    """The metrics, once all books are closed; and requests go on."""
    metrics = await settled_metrics(gateway)
    assert gateway.ways[0].open == 0
    async with asyncio.timeout(10):
        assert (await post(gateway, CHAT)).status_code == 200
    return metrics


async def test_one_that_leaves_before_the_answer_is_told_to_the_worker_and_counted() -> None:
    async with KeptWorker(answers_with_model, stalls, answers_with_model) as one:
        counted = Counted()
        with short_gateway(worker("one", url=one.url), parts={"admission": counted}) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                one.asked.clear()
                await wire.say(PLAIN)
                await one.asked.wait()
            left = time.monotonic()
            await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
            assert time.monotonic() - left < LEAVING_S
            assert gateway.taken == (1, 0)
            metrics = await nothing_is_left(gateway)
            assert (counted.inside, counted.came) == (0, 3)
    assert f'msp_gateway_requests_total{{{LABELS},status="499"}} 1.0' in metrics
    assert f'msp_gateway_failed_tries_total{{model="{LLM}",what="client_left"}} 1.0' in metrics
    assert gateway.reports.told == []


@pytest.mark.parametrize("resume", [False, True])
async def test_one_that_leaves_a_stream_is_told_to_the_worker_and_counted(resume: bool) -> None:
    async with KeptWorker(answers_with_model, stalls_in_stream, answers_with_model) as one:
        told, counted = worker("one", url=one.url), Counted()
        with short_gateway(told, parts={"admission": counted}, resume_streams=resume) as gateway:
            await warm(gateway)
            async with httpx.AsyncClient() as client:
                url, body = f"{gateway.url}/v1/chat/completions", {**CHAT, "stream": True}
                async with client.stream("POST", url, json=body) as answer:
                    assert await anext(answer.aiter_raw()) == event("Once")
            left = time.monotonic()
            await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
            assert time.monotonic() - left < LEAVING_S
            assert gateway.taken == (1, 0)
            metrics = await nothing_is_left(gateway)
            assert (counted.inside, counted.came) == (0, 3)
    assert f'msp_gateway_requests_total{{{LABELS},status="200"}} 2.0' in metrics
    assert "msp_gateway_answers_incomplete_total{" in metrics
    assert gateway.reports.told == []


async def stops_reading(wire: Wire) -> None:
    wire.reader._transport.pause_reading()  # type: ignore[attr-defined]


class Floods:
    """A stream without end, until the other side takes no more or leaves; remembers how much it sent."""

    def __init__(self, most: int = 100_000_000) -> None:
        self.sent = 0
        self.blocked = asyncio.Event()
        self._most = most

    async def __call__(self, exchange: Exchange) -> None:
        start_stream(exchange)
        try:
            while self.sent < self._most:
                exchange.chunk(b"x" * 65_534 + b"\n\n")
                self.sent += 65_536
                async with asyncio.timeout(1):
                    await exchange.writer.drain()
        except TimeoutError:
            self.blocked.set()
            await exchange.client_gone.wait()


async def test_one_that_does_not_read_holds_the_worker_back_and_its_leaving_is_told() -> None:
    floods = Floods()
    async with KeptWorker(answers_with_model, floods, answers_with_model) as one:
        counted = Counted()
        with short_gateway(worker("one", url=one.url), parts={"admission": counted}) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await stops_reading(wire)
                await wire.say(PLAIN)
                await asyncio.wait_for(floods.blocked.wait(), 20)
                assert not one.seen[1].client_gone.is_set()
                wire.writer.transport.abort()
            await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
            assert gateway.taken == (1, 0)
            await nothing_is_left(gateway)
            assert (counted.inside, counted.came) == (0, 3)
    assert floods.sent < 20_000_000


async def test_one_that_never_reads_is_given_up_in_the_end() -> None:
    async with KeptWorker(answers_with_model, Floods(), answers_with_model) as one:
        with short_gateway(worker("one", url=one.url), unread_timeout_s=0.5) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await stops_reading(wire)
                one.asked.clear()
                await wire.say(PLAIN)
                await one.asked.wait()
                await asyncio.wait_for(one.seen[1].client_gone.wait(), 10)
            assert gateway.taken == (1, 0)
            await nothing_is_left(gateway)


async def test_one_that_does_not_read_and_says_nonsense_is_given_up_at_once() -> None:
    floods = Floods()
    async with KeptWorker(answers_with_model, floods, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                await stops_reading(wire)
                await wire.say(PLAIN)
                await asyncio.wait_for(floods.blocked.wait(), 20)
                await wire.say(b"nonsense\r\n\r\n")
                await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
                assert gateway.taken == (1, 0)
            await nothing_is_left(gateway)


@pytest.mark.parametrize("behaviour", [stalls, stalls_in_stream])
@pytest.mark.parametrize("waiting", [PLAIN, PLAIN[:20]])
async def test_one_that_leaves_with_requests_waiting_is_told_to_the_worker(
    behaviour: Behaviour, waiting: bytes
) -> None:
    async with KeptWorker(answers_with_model, behaviour, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            async with wire_to(gateway.url) as wire:
                one.asked.clear()
                await wire.say(PLAIN + waiting)
                await one.asked.wait()
            await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
            assert gateway.taken == (1, 0)
            await settled_metrics(gateway)
            assert len(one.seen) == 2
            await nothing_is_left(gateway)


async def fifty_answers(gateway: ShortCluster) -> list[str]:
    """Of requests at once, each on a connection of its own: the heads."""

    async def head() -> str:
        async with wire_to(gateway.url) as wire:
            await wire.say(PLAIN)
            status, said, _ = await wire.answer()
            assert status == 200
            return said.decode()

    return await asyncio.gather(*(head() for _ in range(50)))


async def test_fifty_that_leave_leave_nothing_behind() -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url, load=WorkerLoad(slots=50)), queue_ahead=0) as gateway:
            await fifty_answers(gateway)
            begun, before = gateway.taken[0], len(one.seen)
            one.behaviours = [stalls_in_stream]

            async def leaves() -> None:
                async with wire_to(gateway.url) as wire:
                    await wire.say(PLAIN)
                    await wire.until(b"\n\n")

            await asyncio.gather(*(leaves() for _ in range(50)))
            await asyncio.wait_for(asyncio.gather(*(e.client_gone.wait() for e in one.seen[before:])), 5)
            assert gateway.taken[0] > begun
            one.behaviours = [answers_with_model]
            await nothing_is_left(gateway)
            assert all("x-msp-queue-position" not in head for head in await fifty_answers(gateway))


def cycles() -> list[RequestResponseCycle]:
    # By its type alone: to ask an object for its class may run code of whoever made it.
    return [found for found in gc.get_objects() if issubclass(type(found), RequestResponseCycle)]


async def test_a_connection_that_has_ended_leaves_nothing_to_the_collector() -> None:
    async with KeptWorker(*[answers_with_model] * 6, stalls) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            gc.collect()
            # Servers of other tests may be there, too.
            others = [id(cycle) for cycle in cycles()]
            gc.disable()
            try:
                for n in range(6):
                    async with wire_to(gateway.url) as wire:
                        one.asked.clear()
                        await wire.say(PLAIN)
                        await (wire.answer() if n < 5 else one.asked.wait())
                async with asyncio.timeout(10):
                    while any(id(cycle) not in others for cycle in cycles()):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                assert gateway.taken == (6, 0)
            finally:
                gc.enable()
