"""Requests on the short way for which a connection to the worker must be made first."""

import asyncio
import json

import pytest

from msp_common.contracts.workers import WorkerLoad
from msp_gateway.http1.client import Http1Upstream
from support.fake_worker import Exchange, answers_with_model, event, streams
from support.gateway_clients import CHAT, post, settled_metrics
from support.gateway_cluster import LLM, worker
from support.kept_worker import KeptWorker
from support.raw_http import wire_to
from support.short_way import short_gateway

BODY = b'{"model": "org/chat", "messages": []}'
PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
LATER = WorkerLoad(in_flight=5)
NOBODY = "http://127.0.0.1:9"


async def closes(exchange: Exchange) -> None:
    exchange.writer.close()


class Making:
    """Connections that are being made until the test says otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(Http1Upstream, "_make", self._make)
        self._loop = asyncio.get_running_loop()

    async def _make(self, *_: object) -> None:
        # The gateway's loop is another thread's.
        self._loop.call_soon_threadsafe(self.begun.set)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._loop.call_soon_threadsafe(self.cancelled.set)


@pytest.mark.parametrize("size", [100, 100_000, 1_000_000])
async def test_a_request_need_not_wait_for_a_task_because_it_is_the_first(size: int) -> None:
    async with KeptWorker(answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            answer = await post(gateway, {**CHAT, "user": "x" * size})
            assert gateway.taken == (1, 0)
            await settled_metrics(gateway)
            assert gateway.ways[0].open == 0
    assert (answer.status_code, answer.json()["model"]) == (200, LLM)
    assert [len(seen.json["user"]) for seen in one.seen] == [size]


async def test_streams_at_the_same_time_have_connections_of_their_own_which_are_kept() -> None:
    async with KeptWorker(streams("Once")) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            for _ in range(2):
                told = await asyncio.gather(*(post(gateway, {**CHAT, "stream": True}) for _ in range(3)))
                assert {answer.content for answer in told} == {
                    event("Once") + event(None) + b"data: [DONE]\n\n"
                }
            assert gateway.taken == (6, 0)
    assert one.connections <= 3


async def test_where_nobody_listens_another_replica_answers() -> None:
    async with KeptWorker() as two:
        workers = worker("one", url=NOBODY), worker("two", url=two.url, load=LATER)
        with short_gateway(*workers) as gateway:
            assert (await post(gateway, CHAT)).status_code == 200
            assert gateway.taken == (1, 1)
            metrics = await settled_metrics(gateway)
    assert gateway.reports.kinds == [("one", "refused")]
    assert f'failed_tries_total{{model="{LLM}",what="refused"}} 1.0' in metrics


async def test_a_fresh_connection_that_closes_without_a_word_has_had_the_request() -> None:
    async with KeptWorker(closes) as one, KeptWorker() as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=LATER)
        with short_gateway(*workers) as gateway:
            assert (await post(gateway, CHAT)).status_code == 200
    assert (len(one.seen), len(two.seen)) == (1, 1)
    assert gateway.reports.kinds == [("one", "reset")]


async def test_a_client_that_leaves_meanwhile_ends_the_making(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    with short_gateway(worker("one", url=NOBODY)) as gateway:
        async with wire_to(gateway.url) as wire, asyncio.timeout(10):
            await wire.say(PLAIN)
            await making.begun.wait()
        await asyncio.wait_for(making.cancelled.wait(), 10)
        metrics = await settled_metrics(gateway)
        assert gateway.ways[0].open == 0
    assert 'what="client_left"} 1.0' in metrics
    assert gateway.reports.told == []


async def test_a_connection_that_is_not_made_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    with short_gateway(worker("one", url=NOBODY), first_byte_timeout_s=1) as gateway:
        answer = await post(gateway, CHAT)
        await asyncio.wait_for(making.cancelled.wait(), 10)
        await settled_metrics(gateway)
        assert gateway.taken == (1, 1)
    assert answer.status_code == 504


async def test_a_mistake_of_ours_in_it_is_told_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Http1Upstream, "_make", fails)
    with short_gateway(worker("one", url=NOBODY)) as gateway:
        answer = await post(gateway, CHAT)
        await settled_metrics(gateway)
        assert gateway.ways[0].open == 0
    assert answer.status_code == 500
    assert "a bug" not in json.dumps(answer.json())
