"""A worker dies in the middle of a stream, and another replica goes on: the client sees one stream."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from msp_common.contracts.workers import Verdict, Worker, WorkerLoad
from msp_gateway.failures import FailedTry, Happened, may_go_on
from msp_model_service.chat.conversation import Conversation
from support.broken_streams import DONE, Heard, asked, heard
from support.chat_fakes import MODEL, chat_app, fake_engine, user
from support.fake_worker import Behaviour, Exchange, FakeWorker, answers, resets, start_stream
from support.gateway_clients import settled_metrics
from support.gateway_cluster import Cluster, serving_gateway, worker
from support.servers import run_server

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SAID = "Héllo 🙂 世界."
BODIES: dict[str, Any] = {
    CHAT: {"messages": [user("x")], "stream": True, "stream_options": {"include_usage": True}},
    TEXT: {"prompt": "x", "stream": True, "max_tokens": 9},
}
BUSY, BUSIEST = WorkerLoad(in_flight=5), WorkerLoad(in_flight=50)


def say(_: Conversation) -> str:
    return SAID


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """A real worker, which goes on."""
    with run_server(chat_app(fake_engine(answer=say))) as url:
        yield url


def whole(url: str, path: str) -> bytes:
    """What the worker that dies would have said."""
    request = httpx.Request("POST", url, json=BODIES[path])
    return asked(url, path, request.content)


def dies_after(sent: bytes) -> Behaviour:
    async def behaviour(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(sent)
        await exchange.reset()

    return behaviour


def replicas(first: str, *others: str) -> list[Worker]:
    """The first is asked first."""
    busy = [worker(f"other{i}", MODEL, url=url, load=BUSY) for i, url in enumerate(others)]
    return [worker("first", MODEL, url=first), *busy]


async def told(gateway: Cluster, path: str = CHAT, **fields: Any) -> tuple[Heard, str | None]:
    """What the client hears, and how its connection broke, if it did."""
    raw, broke = b"", None
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        try:
            async with client.stream("POST", gateway.url + path, json={**BODIES[path], **fields}) as answer:
                assert answer.status_code == 200
                async for part in answer.aiter_raw():
                    raw += part
        except httpx.RemoteProtocolError as error:
            broke = str(error)
    return heard(raw), broke


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_stream_that_breaks_at_any_byte_is_one_stream_for_its_client(path: str, other: str) -> None:
    stream = whole(other, path)
    right = heard(stream)
    places = [*range(1, len(stream), 97), *(len(stream) - n for n in (1, len(DONE), len(DONE) + 1))]
    async with FakeWorker(*(dies_after(stream[:place]) for place in places)) as first:
        with serving_gateway(*replicas(first.url, other), resume_streams=True, cooldown_s=0) as gateway:
            for place in places:
                said, broke = await told(gateway, path)
                assert broke is None
                assert len(said.heads) == 1
                said.heads = right.heads
                if said.token_ids != right.token_ids:  # begun anew behind a comment
                    said.token_ids = said.token_ids[-len(right.token_ids) :]
                assert said == right, place
        assert gateway.reports.kinds.count(("first", "reset")) == len(places)
        assert [exchange.headers["x-msp-resumable"] for exchange in first.seen] == ["1"] * len(places)


async def test_what_came_of_it_is_counted_and_both_tries_are_told(other: str) -> None:
    stream = whole(other, CHAT)
    async with FakeWorker(dies_after(stream[: len(stream) // 2])) as first:
        with serving_gateway(*replicas(first.url, other), resume_streams=True) as gateway:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(gateway.url + CHAT, json=BODIES[CHAT])
                assert answer.headers["x-msp-model"] == MODEL
                about = await client.get(f"{gateway.url}/requests/{answer.headers['x-request-id']}")
            metrics = await settled_metrics(gateway)
    assert f'msp_gateway_resumes_total{{model="{MODEL}",outcome="resumed"}} 1.0' in metrics
    assert f'msp_gateway_failed_tries_total{{model="{MODEL}",what="broken_off"}} 1.0' in metrics
    assert "answers_incomplete_total{" not in metrics
    tries = [(one["worker"], one["what"]) for one in about.json()["tries"]]
    assert tries == [("first", "broken_off"), ("other0", "answered")]
    assert (about.json()["worker"], about.json()["complete"]) == ("other0", True)


async def test_it_is_off_unless_it_is_switched_on(other: str) -> None:
    stream = whole(other, CHAT)
    async with FakeWorker(dies_after(stream[: len(stream) // 2])) as first:
        with serving_gateway(*replicas(first.url, other)) as gateway:
            said, broke = await told(gateway)
        assert "x-msp-resumable" not in first.seen[0].headers
    assert (len(said.errors), said.dones, broke is not None) == (1, 0, True)


async def ends_with_an_error(gateway: Cluster, outcome: str, **fields: Any) -> None:
    said, broke = await told(gateway, **fields)
    assert (len(said.errors), said.dones, broke is not None) == (1, 0, True)
    assert "broke off" in said.errors[0]["message"]
    assert f'outcome="{outcome}"}} 1.0' in await settled_metrics(gateway)


async def test_a_worker_that_tells_no_ids_leaves_an_error(other: str) -> None:
    plain = b"".join(block + b"\n\n" for block in whole(other, CHAT).split(b"\n\n")[:9] if block[:1] != b":")
    async with FakeWorker(dies_after(plain)) as first:
        with serving_gateway(*replicas(first.url, other), resume_streams=True) as gateway:
            await ends_with_an_error(gateway, "impossible")


async def test_nobody_is_asked_who_serves_something_else_or_is_not_fit(other: str) -> None:
    stream = whole(other, CHAT)
    async with FakeWorker(dies_after(stream[:900])) as first:
        old = worker("old", MODEL, url=other, load=BUSY)
        elsewhere = old.lease.model.model_copy(update={"commit": "b" * 40})
        old = old.model_copy(update={"lease": old.lease.model_copy(update={"model": elsewhere})})
        ill = worker("ill", MODEL, url=other, verdict=Verdict.UNHEALTHY)
        with serving_gateway(*replicas(first.url), old, ill, resume_streams=True) as gateway:
            await ends_with_an_error(gateway, "failed")


async def test_a_request_at_which_two_workers_died_is_given_to_no_third(other: str) -> None:
    stream = whole(other, CHAT)

    async def dies_too(exchange: Exchange) -> None:
        exchange.start(200, {"content-type": "text/event-stream", "x-msp-continues": "1"})
        exchange.chunk(b": hm\n\n")
        await exchange.reset()

    for second in (dies_too, resets, answers(500, {"error": {"message": "broken"}})):
        async with FakeWorker(dies_after(stream[:900])) as first, FakeWorker(second) as two:
            all_three = [*replicas(first.url, two.url), worker("last", MODEL, url=other, load=BUSIEST)]
            with serving_gateway(*all_three, resume_streams=True) as gateway:
                await ends_with_an_error(gateway, "failed")
        assert two.seen[0].json["continue"]["id"].startswith("chatcmpl-")


async def test_who_is_busy_or_away_is_passed_over(other: str) -> None:
    stream = whole(other, CHAT)
    busy = answers(429, {"error": {"message": "busy"}}, {"retry-after": "1"})
    async with FakeWorker(dies_after(stream[:900])) as first, FakeWorker(busy) as two:
        last = worker("last", MODEL, url=other, load=BUSIEST)
        four = [*replicas(first.url, two.url, "http://127.0.0.1:9"), last]
        with serving_gateway(*four, resume_streams=True) as gateway:
            said, broke = await told(gateway)
    assert (said.content, said.dones, said.roles, broke) == (SAID, 1, 1, None)


async def test_a_replica_that_begins_from_the_start_is_not_believed(other: str) -> None:
    stream = whole(other, CHAT)

    async def from_the_start(exchange: Exchange) -> None:
        start_stream(exchange)
        exchange.chunk(stream)
        exchange.end()

    async with FakeWorker(dies_after(stream[:900])) as first, FakeWorker(from_the_start) as two:
        with serving_gateway(*replicas(first.url, two.url), resume_streams=True) as gateway:
            await ends_with_an_error(gateway, "failed")


async def test_an_error_that_the_client_was_told_ends_the_stream(other: str) -> None:
    error = b'data: {"error": {"message": "broke off, the engine says"}}\n\n'
    async with FakeWorker(dies_after(whole(other, CHAT)[:900].rpartition(b"data:")[0] + error)) as first:
        with serving_gateway(*replicas(first.url, other), resume_streams=True) as gateway:
            said, broke = await told(gateway)
    assert (len(said.errors), said.dones, broke is not None) == (2, 0, True)


@pytest.mark.parametrize(
    ("past", "may"),
    [
        ([Happened.BROKEN_OFF], True),
        ([Happened.STALLED], True),
        ([Happened.REFUSED, Happened.BACK_PRESSURE, Happened.LEAVING, Happened.BROKEN_OFF], True),
        ([Happened.TOO_LONG, Happened.BROKEN_OFF, Happened.REFUSED], True),
        ([], False),
        ([Happened.SILENT], False),
        ([Happened.RESET], False),
        ([Happened.RESET, Happened.BROKEN_OFF], False),
        ([Happened.BROKEN_OFF, Happened.BROKEN_OFF], False),
        ([Happened.BROKEN_OFF, Happened.GARBAGE], False),
        ([Happened.BROKEN_OFF, Happened.CLIENT_ERROR], False),
        ([Happened.BROKEN_OFF, Happened.NO_FIRST_BYTE], False),
    ],
)
def test_when_another_may_go_on(past: list[Happened], may: bool) -> None:
    assert may_go_on([FailedTry(what, "w", "m") for what in past]) is may
