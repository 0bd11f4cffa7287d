"""What is told and counted of a request is the same whichever way it took."""

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from msp_common.contracts.workers import WorkerLoad
from msp_common.errors import Unauthenticated
from msp_gateway.admission import Identity
from msp_gateway.tracing.otel import OtelTracing
from support.fake_worker import (
    Behaviour,
    Exchange,
    answers,
    answers_with_model,
    cuts_json,
    cuts_stream_after,
    streams,
)
from support.gateway_clients import CHAT, get, settled_metrics
from support.gateway_cluster import LLM, worker
from support.gateway_keys import ADMIN_TOKEN, database_stores
from support.kept_worker import KeptWorker
from support.short_way import ShortCluster, short_gateway, warm

ELSEWHERE = {"origin": "https://a.example"}
"""With this field a request goes the ordinary way; nothing else comes of it."""
NO_CONTEXT = {"error": {"message": "Too long.", "type": "x", "param": "m", "code": "context_length_exceeded"}}
FULL = answers(429, {"error": {"message": "full"}}, {"retry-after": "3"})


class OneKey:
    """Knows one key."""

    mode: Literal["off", "on"] = "on"

    def authenticate(self, authorization: str) -> Identity:
        if authorization == "Bearer wrong":
            raise Unauthenticated("This key is not known.")
        return Identity("someone")


@dataclass
class Told:
    """All that can be seen of one request."""

    status: int = 0
    head: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    aborted: bool = False
    metrics: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    explained: dict[str, Any] = field(default_factory=dict)
    reports: list[tuple[str, str]] = field(default_factory=list)
    sent: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    spans: list[tuple[str, Any, bool]] = field(default_factory=list)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        usual = vars(logging.makeLogRecord({}))
        self.told.append({name: value for name, value in vars(record).items() if name not in usual})


@contextmanager
def request_log() -> Iterator[list[dict[str, Any]]]:
    lines, logger = _Lines(), logging.getLogger("msp_gateway.accounting")
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield lines.told
    finally:
        logger.setLevel(level)
        logger.removeHandler(lines)


async def asked(gateway: ShortCluster, told: Told, body: dict[str, Any], fields: dict[str, str]) -> None:
    async with httpx.AsyncClient(timeout=20) as client:
        try:
            async with client.stream(
                "POST", f"{gateway.url}/v1/chat/completions", json=body, headers=fields
            ) as answer:
                told.status = answer.status_code
                told.head = [pair for pair in answer.headers.items() if pair[0] != "date"]
                assert "date" in answer.headers
                async for part in answer.aiter_raw():
                    told.body += part
        except httpx.RemoteProtocolError:
            told.aborted = True


async def seen(
    behaviour: Behaviour, body: dict[str, Any], fields: dict[str, str], way: tuple[int, int]
) -> Told:
    """The second request to a gateway with two workers: it has to go this way."""
    exporter = InMemorySpanExporter()
    tracing = OtelTracing(exporter, 1, "1.0", lambda: 50.0)
    parts = {"authenticator": OneKey(), "tracing": tracing}
    async with KeptWorker(answers_with_model, behaviour) as one, KeptWorker() as two:
        workers = worker("one", url=one.url), worker("two", url=two.url, load=WorkerLoad(queued=5))
        with short_gateway(*workers, parts=parts) as gateway, request_log() as log:
            await warm(gateway)
            told = Told()
            await asked(gateway, told, body, {"x-request-id": "mine", **fields})
            page = await settled_metrics(gateway)
            assert gateway.taken == way
            told.metrics = [line for line in page.splitlines() if line.startswith("msp_")]
            explained = await get(gateway, "/requests/mine")
            told.explained = {name: value for name, value in explained.json().items() if name != "arrived_at"}
        told.log, told.reports = log[1:], gateway.reports.kinds
        told.sent = [
            ({n: v for n, v in e.headers.items() if n not in ("host", "traceparent", "origin")}, e.body)
            for e in (*one.seen[1:], *two.seen)
        ]
        assert all(re.fullmatch(r"00-\w{32}-\w{16}-\d\d", e.headers["traceparent"]) for e in one.seen[1:])
    tracing.close()
    spans = exporter.get_finished_spans()
    (own,) = (span.context for span in spans if (span.attributes or {}).get("msp.request_id") == "mine")
    assert own is not None
    told.spans = [
        (span.name, sorted((span.attributes or {}).items()), span.parent is None)
        for span in spans
        if span.context is not None and span.context.trace_id == own.trace_id
    ]
    return told


async def without_content(exchange: Exchange) -> None:
    exchange.raw(b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nserver: w\r\nx-more: 1\r\ncontent-length: 0\r\n\r\n")


CASES: dict[str, tuple[Behaviour, dict[str, Any], dict[str, str], tuple[int, int]]] = {
    "an answer": (answers_with_model, CHAT, {}, (1, 0)),
    "an empty answer": (without_content, CHAT, {}, (1, 0)),
    "a default model": (answers_with_model, {"messages": []}, {}, (1, 0)),
    "a stream": (streams("Once", " upon"), {**CHAT, "stream": True}, {}, (1, 0)),
    "a client's mistake": (answers(400, NO_CONTEXT), CHAT, {}, (1, 1)),
    "a failover": (answers(500, {"error": {"message": "broken"}}), CHAT, {}, (1, 1)),
    "back-pressure": (FULL, CHAT, {}, (1, 1)),
    "a broken stream": (cuts_stream_after("Once"), {**CHAT, "stream": True}, {}, (1, 1)),
    "a broken answer": (cuts_json, CHAT, {}, (1, 1)),
    "a wrong key": (answers_with_model, CHAT, {"authorization": "Bearer wrong"}, (0, 0)),
    "an unknown model": (answers_with_model, {**CHAT, "model": "org/none"}, {}, (0, 0)),
}


@pytest.mark.parametrize("case", CASES)
async def test_all_that_is_seen_of_a_request_is_the_same_on_both_ways(case: str) -> None:
    behaviour, body, fields, way = CASES[case]
    here = await seen(behaviour, body, fields, way)
    there = await seen(behaviour, body, {**fields, **ELSEWHERE}, (0, 0))
    assert here == there
    assert ("x-request-id", "mine") in here.head
    assert [line["request_id"] for line in here.log] == ["mine"]
    assert here.spans
    assert here.metrics


async def test_limits_are_told_and_hold_and_usage_is_kept(tmp_path: Path) -> None:
    stores, engine = database_stores(tmp_path)
    admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    async with KeptWorker() as one:
        told = worker("one", url=one.url)
        with short_gateway(told, parts={"stores": stores}, admin_token=ADMIN_TOKEN) as gateway:
            await warm(gateway)
            async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:

                async def chat(secret: str, **more: Any) -> httpx.Response:
                    fields = {"authorization": f"Bearer {secret}"}
                    return await client.post("/v1/chat/completions", json={**CHAT, **more}, headers=fields)

                wanted = {"name": "team", "requests_per_minute": 2, "allowed_models": [LLM]}
                key = (await client.post("/admin/keys", json=wanted, headers=admin)).json()
                answered = [await chat(key["secret"]) for _ in range(2)]
                assert gateway.taken == (2, 0)
                limited = await chat(key["secret"])
                unknown, forbidden = await chat("sk-unknown"), await chat(key["secret"], model="org/none")
                lines = (await client.get("/admin/usage", headers=admin)).json()["lines"]
            assert gateway.taken == (2, 0)
    engine.dispose()
    assert [a.headers["x-ratelimit-remaining-requests"] for a in answered] == ["1", "0"]
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert limited.headers["x-ratelimit-limit-requests"] == "2"
    assert 0 < int(limited.headers["retry-after"]) <= 120
    assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, "Bearer")
    assert forbidden.status_code in (403, 404)
    assert [(line["requests"]) for line in lines if line["key_id"] == key["id"]] == [2]
    assert len(one.seen) == 3


async def test_one_that_finds_no_place_at_once_waits_on_the_ordinary_way() -> None:
    release, wanted = asyncio.Event(), f'queue_waiting{{model="{LLM}"}} 1.0'

    async def holds(exchange: Exchange) -> None:
        await release.wait()
        await answers_with_model(exchange)

    async with KeptWorker(answers_with_model, holds) as one:
        busy = worker("one", url=one.url, load=WorkerLoad(slots=2))
        with short_gateway(busy, queue_ahead=0) as gateway:
            await warm(gateway)
            async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
                one.asked.clear()
                first = [asyncio.create_task(client.post("/v1/chat/completions", json=CHAT)) for _ in "ab"]
                while len(one.seen) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                waiting = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
                async with asyncio.timeout(10):
                    while wanted not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert len(one.seen) == 3
                release.set()
                told = [*await asyncio.gather(*first), await waiting]
                taken = gateway.taken[0]
                told.append(await client.post("/v1/chat/completions", json=CHAT))
                assert gateway.taken[0] == taken + 1
    assert [answer.status_code for answer in told] == [200] * 4
    assert [answer.headers.get("x-msp-queue-position") for answer in told] == [None, None, "1", None]
    assert "x-msp-queue-wait-ms" in told[2].headers
