"""A mistake of ours in the midst of the short way: one connection ends, and nobody else is harmed."""

import asyncio
from collections.abc import Mapping
from typing import Literal

import pytest

from msp_common.contracts.workers import Verdict, WorkerReport
from msp_gateway.admission import ANONYMOUS, Ask, Identity, OpenPlace, Place
from msp_gateway.fields import Fields
from msp_gateway.record import Record
from msp_gateway.replicas import Replicas
from msp_gateway.upstream import RawHeaders
from support.fake_worker import (
    Behaviour,
    Exchange,
    answers_with_model,
    cuts_stream_after,
    event,
    start_stream,
)
from support.gateway_clients import CHAT, post, settled_metrics
from support.gateway_cluster import FakeReports, worker
from support.kept_worker import KeptWorker
from support.raw_http import wire_to
from support.short_way import ShortCluster, short_gateway

BODY = b'{"model": "org/chat", "messages": []}'
PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Mistake(Exception):
    """What no part should raise."""


class Parts(FakeReports):
    """All parts that can be handed in; the one that is named makes one mistake."""

    mode: Literal["off", "on"] = "off"

    def __init__(self) -> None:
        super().__init__()
        self.wrong = ""
        self.made: list[str] = []
        self.inside = 0

    def at(self, step: str) -> None:
        if step == self.wrong:
            self.wrong = ""
            self.made.append(step)
            raise Mistake(step)

    def tell(self, worker_id: str, report: WorkerReport) -> None:
        self.at("report")

    def authenticate(self, authorization: str) -> Identity:
        self.at("authenticate")
        return ANONYMOUS

    def admit(self, ask: Ask) -> Place:
        self.at("admit")
        self.inside += 1
        return _Place(self)

    def begin(self, fields: Fields) -> "_Trace":
        self.at("trace")
        return _Trace(self)


class _Place(OpenPlace):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def fields(self) -> RawHeaders:  # type: ignore[override]
        self._parts.at("fields")
        return ()

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        self._parts.inside -= 1
        self._parts.at("give back")


class _Trace:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def fields(self, headers: RawHeaders) -> RawHeaders:
        self._parts.at("trace fields")
        return headers

    def end(self, record: Record) -> None:
        self._parts.at("trace end")


async def two_kept(gateway: ShortCluster, one: KeptWorker) -> None:
    """Two requests at once: two connections are kept from then on."""
    both = asyncio.Event()

    async def together(exchange: Exchange) -> None:
        if len(one.seen) == 2:
            both.set()
        await both.wait()
        await answers_with_model(exchange)

    one.behaviours = [together]
    await asyncio.gather(post(gateway, CHAT), post(gateway, CHAT))
    assert one.connections == 2


def in_flight(gateway: ShortCluster) -> Mapping[str, int]:
    """Requests at workers, as the pick counts them."""
    replicas: Replicas = gateway.ways[0]._pipeline.replicas
    return replicas.in_flight


@pytest.mark.parametrize(
    ("step", "behaviour", "taken"),
    [
        ("trace", answers_with_model, 0),
        ("authenticate", answers_with_model, 0),
        ("admit", answers_with_model, 0),
        ("trace fields", answers_with_model, 0),
        ("fields", answers_with_model, 1),
        ("report", answers_with_model, 1),
        ("report", cuts_stream_after("Once"), 1),
        ("give back", answers_with_model, 1),
        ("trace end", answers_with_model, 1),
    ],
)
async def test_a_mistake_ends_its_own_connection_and_closes_all_books(
    step: str, behaviour: Behaviour, taken: int
) -> None:
    go_on = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await go_on.wait()
        exchange.chunk(event(None) + b"data: [DONE]\n\n")
        exchange.end()

    async with KeptWorker(answers_with_model) as one:
        parts = Parts()
        handed = {"authenticator": parts, "admission": parts, "tracing": parts}
        suspect = worker("one", url=one.url, verdict=Verdict.SUSPECT)
        with short_gateway(suspect, cluster=ShortCluster(reports=parts), parts=handed) as gateway:
            await two_kept(gateway, one)
            before, one.behaviours = gateway.taken[0], [waits, behaviour, answers_with_model]
            async with wire_to(gateway.url) as other, wire_to(gateway.url) as wire:
                await other.say(PLAIN)
                await other.until(b"\n\n")
                parts.wrong = step
                await wire.say(PLAIN)
                said = await wire.to_end() if taken else await wire.until(b"}}")
                assert parts.made == [step]
                assert gateway.taken[0] == before + 1 + taken
                go_on.set()
                await other.until(b"[DONE]\n\n\r\n0\r\n\r\n")
                await other.say(PLAIN)
                assert (await other.answer())[0] == 200
            await settled_metrics(gateway)
            assert parts.inside == 0
            assert gateway.ways[0].open == 0
            assert in_flight(gateway) == {}
            assert (await post(gateway, CHAT)).status_code == 200
    if not taken:
        assert said.startswith(b"HTTP/1.1 500 ")
