"""Requests through a real gateway to scripted workers on real sockets."""

import asyncio
import time

import httpx

from msp_common.contracts.workers import WorkerLoad
from support.fake_worker import (
    Exchange,
    FakeWorker,
    answers_with_model,
    event,
    resets,
    stalls,
    stalls_in_stream,
    start_stream,
    streams,
)
from support.gateway_clients import CHAT, openai_client, post, said, settled_metrics
from support.gateway_cluster import LLM, serving_gateway, worker

LEAVING_S = 0.5
"""Within which a worker must know that its client left: 0.1 s, and what a loaded machine adds."""


async def test_the_official_client_gets_a_whole_answer() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with openai_client(gateway) as client:
                answer = await client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == "hello"
    assert answer.model == LLM
    assert answer._request_id.startswith("req_")


async def test_the_official_client_gets_a_stream_to_its_end() -> None:
    async with FakeWorker(streams("Once", " upon")) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with openai_client(gateway) as client:
                assert await said(client, []) == ["Once", " upon"]


async def test_a_stream_arrives_event_by_event() -> None:
    step = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await step.wait()
        exchange.chunk(event(None) + b"data: [DONE]\n\n")
        exchange.end()

    async with FakeWorker(slowly) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with (
                httpx.AsyncClient() as client,
                client.stream("POST", f"{gateway.url}/v1/chat/completions", json=CHAT) as answer,
            ):
                parts = answer.aiter_raw()
                assert await anext(parts) == event("Once")
                step.set()
                assert [part async for part in parts] == [event(None) + b"data: [DONE]\n\n"]
                assert answer.headers["content-type"] == "text/event-stream"


async def test_bytes_and_fields_go_on_but_not_who_the_client_is() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            raw = b'{ "model":"org/chat" , "messages":[],  "big": 1.0e5, "text": "\\u00e9" }'
            async with httpx.AsyncClient() as client:
                answer = await client.post(
                    f"{gateway.url}/v1/chat/completions",
                    content=raw,
                    headers={
                        "authorization": "Bearer sk-secret",
                        "cookie": "session=1",
                        "x-request-id": "mine-1",
                        "traceparent": "00-1-2-01",
                        "connection": "x-private",
                        "x-private": "1",
                    },
                )
    sent = one.seen[0]
    assert sent.body == raw
    assert sent.headers["x-request-id"] == "mine-1"
    assert sent.headers["traceparent"] == "00-1-2-01"
    assert not {"authorization", "cookie", "x-private"} & set(sent.headers)
    assert answer.headers["x-request-id"] == "mine-1"


async def test_without_a_model_the_default_is_written_in() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            for model in ({}, {"model": ""}, {"model": None}):
                answer = await post(gateway, {"messages": [], "top_k": 3, **model})
                assert answer.json()["model"] == LLM
    assert [exchange.json for exchange in one.seen] == [{"messages": [], "top_k": 3, "model": LLM}] * 3


async def test_a_client_that_leaves_before_the_answer_is_told_to_the_worker_at_once() -> None:
    async with FakeWorker(stalls) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            asking = asyncio.create_task(post(gateway, CHAT))
            await one.asked.wait()
            asking.cancel()
            left = time.monotonic()
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
            assert time.monotonic() - left < LEAVING_S
            metrics = await settled_metrics(gateway)
    labels = 'key="anonymous",model="org/chat",path="/v1/chat/completions"'
    assert f'msp_gateway_requests_total{{{labels},status="499"}} 1' in metrics
    assert gateway.reports.told == []


async def test_a_client_that_leaves_a_stream_is_told_to_the_worker_at_once() -> None:
    async with FakeWorker(stalls_in_stream) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with (
                httpx.AsyncClient() as client,
                client.stream("POST", f"{gateway.url}/v1/chat/completions", json=CHAT) as answer,
            ):
                await anext(answer.aiter_raw())
            left = time.monotonic()
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
            assert time.monotonic() - left < LEAVING_S
            await settled_metrics(gateway)
    assert gateway.reports.told == []


async def test_requests_at_once_spread_over_the_replicas() -> None:
    ready = asyncio.Event()

    async def together(exchange: Exchange) -> None:
        if len(one.seen) + len(two.seen) == 8:
            ready.set()
        await ready.wait()
        await answers_with_model(exchange)

    async with FakeWorker(together) as one, FakeWorker(together) as two:
        with serving_gateway(worker("one", url=one.url), worker("two", url=two.url)) as gateway:
            await asyncio.gather(*(post(gateway, CHAT) for _ in range(8)))
    assert (len(one.seen), len(two.seen)) == (4, 4)


async def test_a_replica_that_is_busy_here_gets_no_request_while_another_is_idle() -> None:
    async with FakeWorker(stalls, answers_with_model) as one, FakeWorker() as two:
        with serving_gateway(worker("one", url=one.url), worker("two", url=two.url)) as gateway:
            long = asyncio.create_task(post(gateway, CHAT))
            await one.asked.wait()
            for _ in range(3):
                await post(gateway, CHAT)
            long.cancel()
            await asyncio.gather(long, return_exceptions=True)
    assert (len(one.seen), len(two.seen)) == (1, 3)


async def test_a_quiet_clusters_requests_go_round() -> None:
    async with FakeWorker() as one, FakeWorker() as two:
        with serving_gateway(worker("one", url=one.url), worker("two", url=two.url)) as gateway:
            for _ in range(4):
                await post(gateway, CHAT)
    assert (len(one.seen), len(two.seen)) == (2, 2)


async def test_fifty_clients_that_leave_leave_nothing_behind() -> None:
    async with FakeWorker(stalls_in_stream) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:

            async def leaves(client: httpx.AsyncClient) -> None:
                async with client.stream("POST", f"{gateway.url}/v1/chat/completions", json=CHAT) as answer:
                    await anext(answer.aiter_raw())

            # One client, fifty connections: while fifty clients are made, the gateway's thread waits.
            async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
                await asyncio.gather(*(leaves(client) for _ in range(50)))
            await asyncio.wait_for(asyncio.gather(*(e.client_gone.wait() for e in one.seen)), 5)
            metrics = await settled_metrics(gateway)
    assert len(one.seen) == 50
    assert "msp_gateway_answers_incomplete_total" in metrics


async def test_metrics_tell_requests_tries_and_first_bytes() -> None:
    async with FakeWorker(resets) as one, FakeWorker() as two:
        with serving_gateway(
            worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        ) as gateway:
            await post(gateway, CHAT)
            page = await settled_metrics(gateway)
    labels = 'model="org/chat",path="/v1/chat/completions"'
    assert f'msp_gateway_requests_total{{key="anonymous",{labels},status="200"}} 1.0' in page
    assert 'msp_gateway_failed_tries_total{model="org/chat",what="reset"} 1.0' in page
    assert f"msp_gateway_first_byte_seconds_count{{{labels}}} 1.0" in page


async def test_a_client_that_does_not_read_holds_the_worker_back() -> None:
    sent, blocked = 0, asyncio.Event()

    async def floods(exchange: Exchange) -> None:
        nonlocal sent
        start_stream(exchange)
        try:
            while sent < 100_000_000:
                exchange.chunk(b"x" * 65_534 + b"\n\n")
                sent += 65_536
                async with asyncio.timeout(1):
                    await exchange.writer.drain()
        except TimeoutError:
            blocked.set()
            await exchange.client_gone.wait()

    async with FakeWorker(floods) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with (
                httpx.AsyncClient() as client,
                client.stream("POST", f"{gateway.url}/v1/chat/completions", json=CHAT),
            ):
                await asyncio.wait_for(blocked.wait(), 20)
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
    assert sent < 20_000_000
