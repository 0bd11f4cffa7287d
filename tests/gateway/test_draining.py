"""Workers that are being stopped, and a gateway that is."""

import asyncio
import json
import signal

import httpx
import openai
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message

from msp_common.contracts.workers import Verdict, Worker, WorkerLoad
from msp_gateway.accounting import Accounts
from msp_gateway.calls import Call, Candidate
from msp_gateway.head import JsonRequest
from msp_gateway.record import Record
from msp_gateway.relay import Relay
from msp_gateway.replicas import Replicas
from msp_gateway.stalls import Limits, Progress
from msp_gateway.upstream import UpstreamRefused
from msp_gateway.watchdog import Watchdog
from support.fake_worker import (
    Behaviour,
    Exchange,
    FakeWorker,
    answers,
    answers_with_model,
    event,
    resets,
    stalls,
    start_stream,
)
from support.gateway_clients import CHAT, post
from support.gateway_cluster import FakeReports, GatewayClock, serving_gateway, worker
from support.gateway_process import gateway_process
from support.gateway_upstream import FakeAnswer, FakeUpstream
from support.servers import free_port

LATER = WorkerLoad(queued=5)
DRAINS = answers(503, {"error": {"message": "The worker is being stopped."}}, {"retry-after": "1"})


async def test_a_draining_worker_is_sent_nothing() -> None:
    async with FakeWorker() as one, FakeWorker() as two:
        leaving = worker("one", url=one.url, verdict=Verdict.DRAINING)
        with serving_gateway(leaving, worker("two", url=two.url, load=LATER)) as gateway:
            for _ in range(3):
                assert (await post(gateway, CHAT)).status_code == 200
    assert (len(one.seen), len(two.seen)) == (0, 3)


async def test_a_worker_that_began_to_drain_a_moment_ago_costs_nothing_and_is_not_to_blame() -> None:
    async with FakeWorker(DRAINS) as one, FakeWorker() as two:
        with serving_gateway(worker("one", url=one.url), worker("two", url=two.url, load=LATER)) as gateway:
            assert (await post(gateway, CHAT)).status_code == 200
    assert gateway.reports.told == []


@pytest.mark.parametrize(
    ("verdict", "kinds", "cooling"),
    [(None, [], set()), (Verdict.DRAINING, [], set()), (Verdict.READY, [("one", "refused")], {"one"})],
)
async def test_one_that_said_that_it_leaves_is_not_to_blame_when_it_refuses(
    verdict: Verdict | None, kinds: list[tuple[str, str]], cooling: set[str]
) -> None:
    def newest(worker_id: str) -> Worker | None:
        if worker_id == "two":
            return worker("two")
        return worker("one", verdict=verdict) if verdict else None

    async def send(message: Message) -> None:
        pass

    reports, replicas = FakeReports(), Replicas(5, GatewayClock())
    upstream = FakeUpstream(UpstreamRefused("no"), FakeAnswer(200, b"{}"))
    watchdog = Watchdog(Limits(5, 5), lambda worker_id: Progress.UNKNOWN)
    relay = Relay(upstream, replicas, reports, watchdog, newest, Accounts(CollectorRegistry(), lambda: 0.0))
    call = Call("/v1/chat/completions", (), JsonRequest([b"{}"]))
    candidates = [Candidate(worker("one")), Candidate(worker("two"))]
    assert await relay.run(call, candidates, Record("req_1", call.path, 0.0), send) is not None
    assert reports.kinds == kinds
    assert replicas.cooling() == cooling


async def test_a_replica_that_began_to_drain_during_the_first_try_is_passed_over() -> None:
    async with FakeWorker(), FakeWorker() as two, FakeWorker() as three:

        async def resets_later(exchange: Exchange) -> None:
            gateway.directory.told = [
                worker("one", url=one.url),
                worker("two", url=two.url, verdict=Verdict.DRAINING),
                worker("three", url=three.url),
            ]
            await resets(exchange)

        async with FakeWorker(resets_later) as one:
            with serving_gateway(
                worker("one", url=one.url),
                worker("two", url=two.url, load=WorkerLoad(queued=1)),
                worker("three", url=three.url, load=LATER),
            ) as gateway:
                assert (await post(gateway, CHAT)).status_code == 200
    assert (len(two.seen), len(three.seen)) == (0, 1)


async def test_at_sigterm_a_stream_is_finished_and_what_is_new_is_asked_to_come_again() -> None:
    waits, go_on = waiting_stream()
    async with (
        FakeWorker(waits) as one,
        gateway_process(worker("one", url=one.url), settings={"GATEWAY_GRACE_S": "30"}) as (url, process),
    ):
        async with (
            httpx.AsyncClient(timeout=30) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as answer,
        ):
            parts = answer.aiter_raw()
            assert await anext(parts) == event("Once")
            process.send_signal(signal.SIGTERM)
            refusal = await refused(url)
            assert refusal.json()["error"]["code"] == "service_unavailable"
            assert 1 <= int(refusal.headers["retry-after"]) <= 31
            async with httpx.AsyncClient() as other:
                assert (await other.get(f"{url}/livez")).status_code == 200
            go_on.set()
            assert b"".join([part async for part in parts]) == event(" upon") + b"data: [DONE]\n\n"
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_the_official_client_with_its_usual_retries_gets_through_a_restart() -> None:
    waits, go_on = waiting_stream()
    port = free_port()
    async with FakeWorker(waits, answers_with_model) as one:
        known = worker("one", url=one.url)
        async with (
            gateway_process(known, port=port, settings={"GATEWAY_GRACE_S": "8"}) as (url, old),
            httpx.AsyncClient(timeout=30) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as answer,
        ):
            parts = answer.aiter_raw()
            await anext(parts)
            old.send_signal(signal.SIGTERM)
            await refused(url)
            told = asyncio.Event()

            async def tell(response: object) -> None:
                told.set()

            async with openai.AsyncOpenAI(
                base_url=f"{url}/v1",
                api_key="none",
                http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [tell]}),
            ) as official:
                asked = asyncio.create_task(official.chat.completions.create(**CHAT))  # type: ignore[call-overload]
                await asyncio.wait_for(told.wait(), 20)
                go_on.set()
                assert (await anext(parts)).endswith(b"[DONE]\n\n")
                assert await asyncio.wait_for(old.wait(), 20) == 0
                async with gateway_process(known, port=port):
                    assert (await asked).choices[0].message.content == "hello"


def waiting_stream() -> tuple[Behaviour, asyncio.Event]:
    """A stream in two parts, the second one when the event is set."""
    go_on = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await go_on.wait()
        exchange.chunk(event(" upon") + b"data: [DONE]\n\n")
        exchange.end()

    return waits, go_on


async def refused(url: str) -> httpx.Response:
    """Wait until new requests are refused, and how."""
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while True:
            answer = await client.get(f"{url}/v1/models")
            if answer.status_code == 503:
                return answer
            await asyncio.sleep(0.02)


async def test_what_is_still_open_after_the_grace_time_ends_with_an_error() -> None:
    async def endless(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(event("Once"))
        await exchange.client_gone.wait()

    async with (
        FakeWorker(endless, stalls) as one,
        gateway_process(worker("one", url=one.url), settings={"GATEWAY_GRACE_S": "1"}) as (url, process),
    ):
        async with httpx.AsyncClient(timeout=30) as client:
            got = b""
            async with client.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as answer:
                parts = answer.aiter_raw()
                got += await anext(parts)
                one.asked.clear()
                whole = asyncio.create_task(client.post(f"{url}/v1/chat/completions", json=CHAT))
                await asyncio.wait_for(one.asked.wait(), 10)
                process.send_signal(signal.SIGTERM)
                with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012
                    async for part in parts:
                        got += part
            unbegun = await whole
        assert await asyncio.wait_for(process.wait(), 20) == 0
    once, error, end = got.split(b"\n\n")
    assert once + b"\n\n" == event("Once")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "service_unavailable"
    assert end == b""
    assert (unbegun.status_code, unbegun.headers["retry-after"]) == (503, "1")
