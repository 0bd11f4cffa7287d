"""The failure table, for requests that were sent to a worker without a task."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from msp_common.contracts.workers import Verdict, WorkerLoad
from msp_common.logs import REQUEST_ID
from support.fake_worker import (
    Behaviour,
    Exchange,
    answers,
    answers_with_model,
    cuts_json,
    cuts_stream_after,
    event,
    resets,
    speaks_no_http,
    stalls,
    stalls_in_stream,
    start_stream,
    starts_then_resets,
    streams,
)
from support.gateway_clients import CHAT, post, settled_metrics
from support.gateway_cluster import LLM, worker
from support.kept_worker import KeptWorker
from support.short_way import ShortCluster, short_gateway, warm

LATER = WorkerLoad(queued=5)
STILL = WorkerLoad(in_flight=1, last_progress_age_s=45)
MOVES = WorkerLoad(in_flight=1, last_progress_age_s=0.2)
DONE = b"data: [DONE]\n\n"


async def closes(exchange: Exchange) -> None:
    """The request is read whole, then the connection is closed without a byte."""
    exchange.writer.close()


async def closes_after(exchange: Exchange) -> None:
    """A whole answer, then the end of the connection, which nothing announced."""
    await answers_with_model(exchange)
    exchange.writer.close()


async def heard(gateway: ShortCluster) -> tuple[bytes, bool]:
    """What a client gets of a stream, and whether it was aborted."""
    got, aborted = b"", False
    async with httpx.AsyncClient(timeout=20) as client:
        try:
            async with client.stream(
                "POST", f"{gateway.url}/v1/chat/completions", json={**CHAT, "stream": True}
            ) as answer:
                assert answer.status_code == 200
                async for part in answer.aiter_raw():
                    got += part
        except httpx.RemoteProtocolError:
            aborted = True
    return got, aborted


def code_of(error_event: bytes) -> str:
    code: str = json.loads(error_event.removeprefix(b"data: "))["error"]["code"]
    return code


async def test_good_answers_and_streams_are_passed_on_without_the_ordinary_way() -> None:
    async with KeptWorker(answers_with_model, answers_with_model, streams("Once", " upon")) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            answer = await post(gateway, CHAT)
            stream = await heard(gateway)
            assert gateway.taken == (2, 0)
            await settled_metrics(gateway)
            assert gateway.ways[0].open == 0
    assert (answer.status_code, answer.json()["model"]) == (200, LLM)
    assert stream == (event("Once") + event(" upon") + event(None) + DONE, False)
    assert one.connections == 1
    assert gateway.reports.told == []


async def test_a_kept_connection_that_closed_meanwhile_is_nobodys_fault() -> None:
    async with KeptWorker(closes_after, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            assert (await post(gateway, CHAT)).status_code == 200
    assert (len(one.seen), one.connections) == (2, 2)
    assert gateway.reports.told == []


async def test_a_kept_connection_that_closes_at_the_request_is_replaced_by_a_fresh_one() -> None:
    async with KeptWorker(answers_with_model, closes, answers_with_model) as one, KeptWorker() as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=LATER)
        with short_gateway(*workers) as gateway:
            await warm(gateway)
            assert (await post(gateway, CHAT)).status_code == 200
            assert gateway.taken == (1, 1)
    assert (len(one.seen), one.connections, len(two.seen)) == (3, 2, 0)
    assert gateway.reports.told == []


@pytest.mark.parametrize(
    ("fault", "kind", "times"),
    [
        # Without a byte the kept connection may have been dead: a fresh one tells.
        pytest.param(resets, "reset", 2, id="reset"),
        pytest.param(closes, "reset", 2, id="closed"),
        pytest.param(starts_then_resets, "reset", 1, id="reset after the head"),
        pytest.param(speaks_no_http, "garbage", 1, id="garbage"),
        pytest.param(answers(500, {"error": "broken"}), "server_error", 1, id="500"),
        pytest.param(answers(503, {}), "server_error", 1, id="503"),
        pytest.param(answers(302, {}, {"location": "/"}), "server_error", 1, id="302"),
    ],
)
async def test_one_other_replica_answers_after_a_fault_before_the_first_byte(
    fault: Behaviour, kind: str, times: int
) -> None:
    async with KeptWorker(answers_with_model, fault) as one, KeptWorker() as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=LATER)
        with short_gateway(*workers) as gateway:
            await warm(gateway)
            answer = await post(gateway, CHAT)
            assert gateway.taken == (1, 1)
            metrics = await settled_metrics(gateway)
    assert answer.status_code == 200
    assert (len(one.seen), len(two.seen)) == (1 + times, 1)
    assert gateway.reports.kinds == [("one", kind)]
    assert f'failed_tries_total{{model="{LLM}",what="{kind}"}} 1.0' in metrics
    assert f'msp_gateway_retries_total{{model="{LLM}"}} 1.0' in metrics


async def test_a_poisonous_request_reaches_two_replicas() -> None:
    async with (
        KeptWorker(answers_with_model, speaks_no_http) as a,
        KeptWorker(speaks_no_http) as b,
        KeptWorker(speaks_no_http) as c,
    ):
        loads = [WorkerLoad(queued=n) for n in range(3)]
        told = [worker(n, url=w.url, load=q) for n, w, q in zip("abc", (a, b, c), loads, strict=True)]
        with short_gateway(*told) as gateway:
            await warm(gateway)
            answer = await post(gateway, CHAT)
            assert gateway.taken == (1, 1)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
    assert answer.json()["error"]["code"] == "upstream_failed"
    assert (len(a.seen), len(b.seen), len(c.seen)) == (2, 1, 0)


@pytest.mark.parametrize("status", [429, 503])
async def test_back_pressure_is_answered_by_another_replica_or_passed_on(status: int) -> None:
    full = answers(status, {"error": {"message": "full"}}, {"retry-after": "7"})
    async with KeptWorker(answers_with_model, full) as one, KeptWorker(answers_with_model, full) as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=LATER)
        with short_gateway(*workers) as gateway:
            await warm(gateway)
            assert (await post(gateway, CHAT)).status_code == 200
            refused = await post(gateway, CHAT)
            assert gateway.taken == (2, 2)
    assert (refused.status_code, refused.headers["retry-after"]) == (status, "7")
    assert refused.json()["error"]["message"] == "full"
    assert gateway.reports.told == []


async def test_a_clients_mistake_is_passed_on_and_counts_against_nobody() -> None:
    error = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "c"}
    async with KeptWorker(answers_with_model, answers(400, {"error": error})) as one, KeptWorker() as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=LATER)
        with short_gateway(*workers) as gateway:
            await warm(gateway)
            answer = await post(gateway, CHAT)
            assert gateway.taken == (1, 1)
    assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert (two.seen, gateway.reports.told) == ([], [])


async def test_an_answer_without_a_body_is_an_answer() -> None:
    async def empty(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with KeptWorker(answers_with_model, empty, no_content, answers_with_model) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            told = [await post(gateway, CHAT) for _ in range(3)]
            assert gateway.taken == (3, 1)
    assert [(answer.status_code, len(answer.content) > 0) for answer in told] == [
        (200, False),
        (204, False),
        (200, True),
    ]


async def no_content(exchange: Exchange) -> None:
    exchange.raw(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize(
    ("load", "settings", "reports"),
    [
        (STILL, {"stall_s": 0.2}, [("one", "stalled")]),
        (MOVES, {"stall_s": 0.2, "first_byte_timeout_s": 0.5}, []),
    ],
)
@pytest.mark.parametrize("stall", [stalls, None])
async def test_without_a_first_byte_in_time_nobody_else_is_asked(
    stall: Behaviour | None, load: WorkerLoad, settings: dict[str, Any], reports: list[tuple[str, str]]
) -> None:
    async def stalls_after_head(exchange: Exchange) -> None:
        start_stream(exchange)
        await exchange.client_gone.wait()

    async with KeptWorker(answers_with_model, stall or stalls_after_head) as one, KeptWorker() as two:
        later = worker("two", url=two.url, load=LATER)
        with short_gateway(worker("one", url=one.url), later, **settings) as gateway:
            await warm(gateway)
            one.asked.clear()
            asking = asyncio.create_task(post(gateway, CHAT))
            await one.asked.wait()
            gateway.directory.told = [worker("one", url=one.url, load=load), later]
            answer = await asking
            assert gateway.taken == (1, 1)
            await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
            await settled_metrics(gateway)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert two.seen == []
    assert gateway.reports.kinds == reports


@pytest.mark.parametrize(
    ("load", "settings", "reports"),
    [
        (STILL, {"stall_s": 0.2}, [("one", "stalled")]),
        (MOVES, {"stall_s": 0.1, "first_byte_timeout_s": 0.4}, []),
    ],
)
async def test_a_stream_that_stands_still_ends_with_an_error_event_and_an_abort(
    load: WorkerLoad, settings: dict[str, Any], reports: list[tuple[str, str]]
) -> None:
    async with KeptWorker(answers_with_model, stalls_in_stream) as one:
        with short_gateway(worker("one", url=one.url, load=load), **settings) as gateway:
            await warm(gateway)
            got, aborted = await heard(gateway)
            assert gateway.taken == (1, 1)
            await asyncio.wait_for(one.seen[1].client_gone.wait(), 5)
            metrics = await settled_metrics(gateway)
    first, error, end = got.split(b"\n\n")
    assert (first + b"\n\n", code_of(error), end) == (event("Once"), "upstream_timeout", b"")
    assert aborted
    assert gateway.reports.kinds == reports
    assert "msp_gateway_answers_incomplete_total{" in metrics
    what = "stalled" if reports else "silent"
    assert f'failed_tries_total{{model="{LLM}",what="{what}"}} 1.0' in metrics


async def cuts_garbage(exchange: Exchange) -> None:
    start_stream(exchange)
    exchange.chunk(event("Once"))
    exchange.raw(b"no chunk\r\n")


async def cuts_quietly(exchange: Exchange) -> None:
    start_stream(exchange)
    exchange.chunk(event("Once") + b'data: {"id": "ch')
    exchange.writer.close()


@pytest.mark.parametrize(
    "cut",
    [
        cuts_stream_after("Once"),
        cuts_stream_after("Once", then=b'data: {"id": "ch'),
        cuts_quietly,
        cuts_garbage,
    ],
)
async def test_a_broken_stream_ends_with_an_error_event_and_an_abort_and_half_an_event_is_withheld(
    cut: Behaviour,
) -> None:
    async with KeptWorker(answers_with_model, cut) as one, KeptWorker() as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=LATER)
        with short_gateway(*workers) as gateway:
            await warm(gateway)
            got, aborted = await heard(gateway)
            assert gateway.taken == (1, 1)
            metrics = await settled_metrics(gateway)
    first, error, end = got.split(b"\n\n")
    assert (first + b"\n\n", code_of(error), end) == (event("Once"), "upstream_failed", b"")
    assert aborted
    assert two.seen == []
    assert gateway.reports.kinds == [("one", "reset")]
    assert f'failed_tries_total{{model="{LLM}",what="broken_off"}} 1.0' in metrics


async def test_a_stream_that_breaks_after_its_last_event_is_whole() -> None:
    async with KeptWorker(answers_with_model, cuts_stream_after("Once", then=DONE)) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            heard_all = await heard(gateway)
            assert gateway.taken == (1, 1)
            metrics = await settled_metrics(gateway)
    assert heard_all == (event("Once") + DONE, False)
    assert gateway.reports.kinds == [("one", "reset")]
    assert "answers_incomplete_total{" not in metrics


async def closes_json(exchange: Exchange) -> None:
    exchange.raw(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"id": "c')
    exchange.writer.close()


async def cuts_chunked_json(exchange: Exchange) -> None:
    exchange.start()
    exchange.chunk(b'{"id": "c')
    await exchange.reset()


@pytest.mark.parametrize("cut", [cuts_json, closes_json, cuts_chunked_json])
async def test_a_whole_answer_that_breaks_is_aborted(cut: Behaviour) -> None:
    async with KeptWorker(answers_with_model, cut) as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            with pytest.raises(httpx.RemoteProtocolError):
                await post(gateway, CHAT)
            assert gateway.taken == (1, 1)
            await settled_metrics(gateway)
    assert gateway.reports.kinds == [("one", "reset")]


async def test_a_replica_that_answers_well_again_is_told_to_the_service_registry() -> None:
    async with KeptWorker() as one:
        with short_gateway(worker("one", url=one.url)) as gateway:
            await warm(gateway)
            gateway.directory.told = [worker("one", url=one.url, verdict=Verdict.SUSPECT)]
            assert (await post(gateway, CHAT)).status_code == 200
            assert gateway.taken == (1, 0)
    assert gateway.reports.kinds == [("one", "ok")]


class Lines(logging.Handler):
    """Remembers what was logged, and under which request."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append((record.getMessage().partition(":")[0], REQUEST_ID.get()))


@contextmanager
def logged(name: str) -> Iterator[list[tuple[str, str | None]]]:
    handler, logger = Lines(), logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield handler.told
    finally:
        logger.removeHandler(handler)


async def test_the_log_tells_of_a_break_under_the_id_of_its_own_request() -> None:
    async with KeptWorker(answers_with_model, cuts_stream_after("Once")) as one:
        with short_gateway(worker("one", url=one.url)) as gateway, logged("msp_gateway.relay") as lines:
            await warm(gateway)
            async with httpx.AsyncClient() as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(
                        f"{gateway.url}/v1/chat/completions", json=CHAT, headers={"x-request-id": "mine-2"}
                    )
            assert gateway.taken == (1, 1)
    assert lines == [("broken_off", "mine-2")]
