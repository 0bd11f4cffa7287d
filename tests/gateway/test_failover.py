"""The failure table, seen from outside: scripted faults on real sockets."""

import asyncio
import json

import httpx
import pytest
from openai import APIError, AsyncOpenAI, InternalServerError

from msp_common.contracts.workers import Verdict, WorkerLoad
from support.fake_worker import (
    Behaviour,
    FakeWorker,
    answers,
    answers_with_model,
    closes,
    cuts_json,
    cuts_stream_after,
    event,
    resets,
    speaks_no_http,
    stalls,
    starts_then_resets,
)
from support.gateway_clients import CHAT, openai_client, post, said
from support.gateway_cluster import LLM, serving_gateway, worker


async def test_next_replica_answers_when_the_first_refuses() -> None:
    async with FakeWorker() as one, FakeWorker() as two:
        await one.stop_listening()
        with serving_gateway(
            worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        ) as gateway:
            assert (await post(gateway, CHAT)).status_code == 200
            assert (await post(gateway, CHAT)).status_code == 200
    assert gateway.reports.kinds == [("one", "refused")]
    assert len(two.seen) == 2


async def test_every_other_candidate_is_tried_while_they_refuse() -> None:
    async with FakeWorker() as good:
        gone = [worker(f"gone{i}") for i in range(4)]
        busy = worker("good", url=good.url, load=WorkerLoad(queued=5))
        with serving_gateway(*gone, busy) as gateway:
            assert (await post(gateway, CHAT)).status_code == 200
    assert len(gateway.reports.told) == 4


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (resets, "reset"),
        (closes, "reset"),
        (starts_then_resets, "reset"),
        (speaks_no_http, "garbage"),
        (answers(500, {"error": "broken"}), "server_error"),
        (answers(503, {}), "server_error"),
    ],
)
async def test_one_other_replica_answers_after_a_fault_before_the_first_byte(
    fault: Behaviour, kind: str
) -> None:
    async with FakeWorker(fault) as one, FakeWorker() as two:
        with serving_gateway(
            worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        ) as gateway:
            answer = await post(gateway, CHAT)
    assert answer.status_code == 200
    assert (len(one.seen), len(two.seen)) == (1, 1)
    assert gateway.reports.kinds == [("one", kind)]


async def test_a_poisonous_request_reaches_two_replicas_and_no_stand_in() -> None:
    async with FakeWorker(resets) as a, FakeWorker(resets) as b, FakeWorker(resets) as c, FakeWorker() as d:
        with serving_gateway(
            worker("a", url=a.url),
            worker("b", url=b.url),
            worker("c", url=c.url),
            worker("d", "org/other", url=d.url),
            default_llm=LLM,
        ) as gateway:
            answer = await post(gateway, {"messages": []})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_failed"
    assert answer.headers["x-should-retry"] == "false"
    assert len(a.seen) + len(b.seen) + len(c.seen) == 2
    assert d.seen == []


async def test_after_a_poisoned_replica_one_that_refuses_does_not_count() -> None:
    async with FakeWorker(resets) as one, FakeWorker() as two:
        with serving_gateway(
            worker("one", url=one.url),
            worker("gone", load=WorkerLoad(queued=1)),
            worker("two", url=two.url, load=WorkerLoad(queued=2)),
        ) as gateway:
            assert (await post(gateway, CHAT)).status_code == 200


async def test_a_stand_in_answers_when_all_replicas_of_the_default_refuse() -> None:
    async with FakeWorker() as other:
        with serving_gateway(
            worker("gone"), worker("other", "org/other", url=other.url), default_llm=LLM
        ) as gateway:
            assert (await post(gateway, {"messages": []})).json()["model"] == "org/other"
            assert (await post(gateway, CHAT)).status_code == 503


async def test_back_pressure_is_answered_by_another_replica_and_is_nobodys_fault() -> None:
    full = answers(503, {"error": {"message": "full"}}, {"retry-after": "3"})
    async with FakeWorker(full) as one, FakeWorker() as two:
        with serving_gateway(
            worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        ) as gateway:
            assert (await post(gateway, CHAT)).status_code == 200
            two.behaviours = [answers(429, {"error": {"message": "slow down"}}, {"retry-after": "7"})]
            refused = await post(gateway, CHAT)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "7"
    assert refused.json()["error"]["message"] == "slow down"
    assert gateway.reports.told == []


async def test_a_clients_mistake_is_passed_on_and_counts_against_nobody() -> None:
    error = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "c"}
    async with FakeWorker(answers(400, {"error": error})) as one, FakeWorker() as two:
        with serving_gateway(
            worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        ) as gateway:
            answer = await post(gateway, CHAT)
    assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert two.seen == []
    assert gateway.reports.told == []


@pytest.mark.parametrize("content", [{"detail": "no such thing"}, "no such thing", {"error": "odd"}])
async def test_a_workers_error_leaves_in_the_envelope(content: object) -> None:
    async with FakeWorker(answers(404, content)) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            answer = await post(gateway, CHAT)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_server_error_without_another_replica_is_not_to_be_repeated() -> None:
    async with FakeWorker(answers(500, {"error": {"message": "broken"}})) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=2) as client:
                with pytest.raises(InternalServerError, match="broken"):
                    await client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert len(one.seen) == 1


async def test_a_stream_that_breaks_raises_in_the_client() -> None:
    async with FakeWorker(cuts_stream_after("Once", " upon")) as one, FakeWorker() as two:
        with serving_gateway(
            worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        ) as gateway:
            words: list[str] = []
            async with openai_client(gateway) as client:
                with pytest.raises(APIError, match="broke off"):
                    await said(client, words)
    assert words == ["Once", " upon"]
    assert two.seen == []
    assert gateway.reports.kinds == [("one", "reset")]


async def test_a_broken_stream_is_aborted_after_its_error_event_and_half_an_event_is_withheld() -> None:
    async with FakeWorker(cuts_stream_after("Once", then=b'data: {"id": "ch')) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            got = b""
            async with (
                httpx.AsyncClient() as client,
                client.stream("POST", f"{gateway.url}/v1/chat/completions", json=CHAT) as answer,
            ):
                with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012  (what came before it counts)
                    async for part in answer.aiter_raw():
                        got += part
    once, error, end = got.split(b"\n\n")
    assert once + b"\n\n" == event("Once")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "upstream_failed"
    assert end == b""


async def test_a_stream_that_breaks_after_its_last_event_is_whole() -> None:
    async with FakeWorker(cuts_stream_after("Once", then=b"data: [DONE]\n\n")) as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            answer = await post(gateway, CHAT)
    assert answer.content == event("Once") + b"data: [DONE]\n\n"


async def test_a_whole_answer_that_breaks_is_aborted() -> None:
    async with FakeWorker(cuts_json) as one:
        with (
            serving_gateway(worker("one", url=one.url)) as gateway,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            await post(gateway, CHAT)
    assert gateway.reports.kinds == [("one", "reset")]


@pytest.mark.parametrize(("age_s", "reports"), [(None, []), (5.0, []), (60.0, [("one", "stalled")])])
async def test_without_a_first_byte_in_time_nobody_else_is_asked(
    age_s: float | None, reports: list[tuple[str, str]]
) -> None:
    async with FakeWorker(stalls) as one, FakeWorker() as two:
        free, busy = worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        with serving_gateway(free, busy, first_byte_timeout_s=0.5) as gateway:
            asking = asyncio.create_task(post(gateway, CHAT))
            await one.asked.wait()
            at_work = worker("one", url=one.url, load=WorkerLoad(last_progress_age_s=age_s))
            gateway.directory.told = [at_work, busy]
            answer = await asking
            await asyncio.wait_for(one.seen[0].client_gone.wait(), 5)
    assert answer.status_code == 504
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert two.seen == []
    assert gateway.reports.kinds == reports


async def test_a_replica_that_failed_is_asked_last_until_its_cool_down_is_over() -> None:
    async with FakeWorker(resets, answers_with_model) as one, FakeWorker() as two:
        with serving_gateway(
            worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5)), cooldown_s=5
        ) as gateway:
            await post(gateway, CHAT)
            await post(gateway, CHAT)
            assert (len(one.seen), len(two.seen)) == (1, 2)
            gateway.clock.now += 6
            await post(gateway, CHAT)
    assert (len(one.seen), len(two.seen)) == (2, 2)
    assert gateway.reports.kinds == [("one", "reset"), ("one", "ok")]


async def test_a_suspect_that_answers_is_told_to_the_service_registry() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url, verdict=Verdict.SUSPECT)) as gateway:
            await post(gateway, CHAT)
    assert gateway.reports.kinds == [("one", "ok")]


FULL = answers(429, {"error": {"message": "full"}}, {"retry-after": "1"})
BROKEN = answers(500, {"error": {"message": "broken"}})


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ([FULL, stalls, answers_with_model], 504),
        ([FULL, resets, resets], 502),
        ([FULL, BROKEN, resets], 500),
        ([resets, FULL, answers(400, {})], 400),
        ([resets, FULL, FULL], 502),
        ([FULL, FULL, FULL], 429),
    ],
)
async def test_when_all_fail_the_gravest_is_told(faults: list[Behaviour], status: int) -> None:
    async with FakeWorker(faults[0]) as a, FakeWorker(faults[1]) as b, FakeWorker(faults[2]) as c:
        with serving_gateway(
            worker("a", url=a.url),
            worker("b", url=b.url, load=WorkerLoad(queued=1)),
            worker("c", url=c.url, load=WorkerLoad(queued=2)),
            first_byte_timeout_s=0.5,
        ) as gateway:
            answer = await post(gateway, CHAT)
    assert answer.status_code == status
    assert answer.headers.get("x-should-retry") == ("false" if status >= 500 else None)
