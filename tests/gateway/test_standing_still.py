"""A worker that is there and whose streams stand still, as clients and the service registry see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from msp_common.contracts.workers import WorkerLoad
from support.fake_worker import Exchange, FakeWorker, event, stalls, stalls_in_stream, start_stream
from support.gateway_clients import CHAT, post, settled_metrics
from support.gateway_cluster import LLM, Cluster, serving_gateway, worker

STILL = WorkerLoad(in_flight=1, last_progress_age_s=45)
MOVES = WorkerLoad(in_flight=1, last_progress_age_s=0.2)
SOON_S = 0.2


@asynccontextmanager
async def streaming(gateway: Cluster) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("POST", f"{gateway.url}/v1/chat/completions", json={**CHAT, "stream": True}) as answer,
    ):
        yield answer


async def test_a_stream_that_stands_still_ends_with_an_error_event_and_an_abort_and_is_reported() -> None:
    async with FakeWorker(stalls_in_stream) as one:
        with serving_gateway(worker("one", url=one.url, load=STILL), stall_s=SOON_S) as gateway:
            got = b""
            async with streaming(gateway) as answer:
                with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012  (what came before it counts)
                    async for part in answer.aiter_raw():
                        got += part
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
            metrics = await settled_metrics(gateway)
    first, error, end = got.split(b"\n\n")
    assert first + b"\n\n" == event("Once")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
    assert end == b""
    assert gateway.reports.kinds == [("one", "stalled")]
    assert f'failed_tries_total{{model="{LLM}",what="stalled"}} 1.0' in metrics


@pytest.mark.parametrize("stream", [True, False])
async def test_without_a_first_byte_a_worker_that_stands_still_is_not_waited_for(stream: bool) -> None:
    async with FakeWorker(stalls) as one, FakeWorker() as two:
        still = worker("one", url=one.url, load=STILL)
        with serving_gateway(still, stall_s=SOON_S) as gateway:
            answer = await post(gateway, {**CHAT, "stream": stream})
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
            gateway.directory.told = [still, worker("two", url=two.url, load=WorkerLoad(queued=9))]
            assert (await post(gateway, CHAT)).status_code == 200
    assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert len(one.seen) == 1
    assert gateway.reports.kinds == [("one", "stalled")]


@pytest.mark.parametrize("load", [MOVES, WorkerLoad()])
async def test_a_stream_is_waited_for_while_its_engine_moves_or_says_nothing(load: WorkerLoad) -> None:
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def thinks_long(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await go_on.wait()
        exchange.chunk(event(" upon") + b"data: [DONE]\n\n")
        exchange.end()

    class Watched(list[object]):
        """Notices when the snapshot is looked at."""

        def __iter__(self):  # type: ignore[no-untyped-def]
            loop.call_soon_threadsafe(looked.set)
            return super().__iter__()

    loop = asyncio.get_running_loop()
    async with FakeWorker(thinks_long) as one:
        told = worker("one", url=one.url, load=load)
        with serving_gateway(told, stall_s=SOON_S) as gateway:
            async with streaming(gateway) as answer:
                parts = answer.aiter_raw()
                assert await anext(parts) == event("Once")
                gateway.directory.told = Watched([told])  # type: ignore[assignment]
                await asyncio.wait_for(looked.wait(), 10)
                go_on.set()
                assert [part async for part in parts] == [event(" upon") + b"data: [DONE]\n\n"]
    assert gateway.reports.told == []


async def test_a_stream_that_is_silent_for_too_long_is_given_up_and_nobody_is_blamed() -> None:
    async with FakeWorker(stalls_in_stream) as one:
        told = worker("one", url=one.url, load=MOVES)
        with serving_gateway(told, stall_s=0.1, first_byte_timeout_s=0.4) as gateway:
            async with streaming(gateway) as answer:
                with pytest.raises(httpx.RemoteProtocolError):
                    await answer.aread()
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
    assert gateway.reports.told == []
