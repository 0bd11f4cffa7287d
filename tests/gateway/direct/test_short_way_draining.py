"""A gateway that is being stopped while requests are on the short way."""

import asyncio
import json
import signal

import httpx
import pytest

from msp_common.contracts.workers import WorkerLoad
from support.fake_worker import Exchange, answers, answers_with_model, event, stalls, start_stream
from support.gateway_clients import CHAT
from support.gateway_cluster import worker
from support.gateway_process import gateway_process
from support.kept_worker import KeptWorker
from support.raw_http import wire_to

BODY = b'{"model": "org/chat", "messages": []}'
PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
PATH = "/v1/chat/completions"


async def keep(url: str, one: KeptWorker, count: int) -> None:
    """So many connections to the worker are kept from now on."""
    all_there = asyncio.Event()

    async def together(exchange: Exchange) -> None:
        if len(one.seen) == count:
            all_there.set()
        await all_there.wait()
        await answers_with_model(exchange)

    later, one.behaviours = one.behaviours, [together]
    async with httpx.AsyncClient(timeout=20) as client:
        for answer in await asyncio.gather(*(client.post(url + PATH, json=CHAT) for _ in range(count))):
            assert answer.status_code == 200
    one.behaviours = later


async def drains(url: str) -> None:
    """Wait until new requests are refused."""
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while (await client.get(f"{url}/v1/models")).status_code != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_what_is_open_is_finished_and_what_comes_later_is_asked_to_come_again() -> None:
    go_on = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await go_on.wait()
        exchange.chunk(event(" upon") + b"data: [DONE]\n\n")
        exchange.end()

    async with (
        KeptWorker(waits, answers_with_model) as one,
        gateway_process(worker("one", url=one.url), settings={"GATEWAY_GRACE_S": "30"}) as (url, process),
    ):
        await keep(url, one, 2)
        async with wire_to(url) as wire, wire_to(url) as late:
            await wire.say(PLAIN)
            await wire.until(event("Once"))
            await wire.say(PLAIN)
            await late.say(PLAIN[: -len(BODY)])
            process.send_signal(signal.SIGTERM)
            await drains(url)
            await late.say(BODY)
            status, head, _ = await late.answer()
            assert (status, b"retry-after: " in head) == (503, True)
            go_on.set()
            await wire.until(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            status, head, _ = await wire.answer()
            assert (status, b"retry-after: " in head) == (503, True)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert len(one.seen) == 3


async def test_what_another_replica_has_to_answer_meanwhile_has_the_whole_grace_time() -> None:
    go_on = asyncio.Event()

    async def fails(exchange: Exchange) -> None:
        await go_on.wait()
        await answers(500, {"error": {"message": "broken"}})(exchange)

    async def takes_its_time(exchange: Exchange) -> None:
        # Longer than the server waits once it has stopped to listen.
        await asyncio.sleep(2)
        await answers_with_model(exchange)

    async with KeptWorker(fails) as one, KeptWorker(takes_its_time) as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        async with gateway_process(*workers, settings={"GATEWAY_GRACE_S": "30"}) as (url, process):
            await keep(url, one, 1)
            async with wire_to(url) as wire:
                one.asked.clear()
                await wire.say(PLAIN)
                await one.asked.wait()
                process.send_signal(signal.SIGTERM)
                await drains(url)
                go_on.set()
                assert (await wire.answer())[0] == 200
            assert await asyncio.wait_for(process.wait(), 20) == 0
    assert (len(one.seen), len(two.seen)) == (2, 1)


async def test_what_is_still_open_after_the_grace_time_ends_with_an_error() -> None:
    async def endless(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await exchange.client_gone.wait()

    async with (
        KeptWorker(endless, stalls) as one,
        gateway_process(worker("one", url=one.url), settings={"GATEWAY_GRACE_S": "1"}) as (url, process),
    ):
        await keep(url, one, 2)
        async with httpx.AsyncClient(timeout=30) as client:
            got = b""
            async with client.stream("POST", url + PATH, json={**CHAT, "stream": True}) as answer:
                parts = answer.aiter_raw()
                got += await anext(parts)
                one.asked.clear()
                whole = asyncio.create_task(client.post(url + PATH, json=CHAT))
                await asyncio.wait_for(one.asked.wait(), 10)
                process.send_signal(signal.SIGTERM)
                with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012
                    async for part in parts:
                        got += part
            unbegun = await whole
        await asyncio.wait_for(asyncio.gather(*(e.client_gone.wait() for e in one.seen)), 5)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert len(one.seen) == 4
    once, error, end = got.split(b"\n\n")
    assert once + b"\n\n" == event("Once")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "service_unavailable"
    assert end == b""
    assert (unbegun.status_code, unbegun.headers["retry-after"]) == (503, "1")
