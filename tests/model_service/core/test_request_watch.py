"""What is measured of every request, and where it is told: metrics, the answer's head, the log."""

import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import ServedModel, WorkerLoad, WorkerState
from msp_common.logs import formatter
from msp_model_service.app import create_app
from msp_model_service.engines.fake_chat import FakeChatEngine
from msp_model_service.engines.fake_embedder import FakeEmbedder
from msp_model_service.engines.figures import EngineFigures
from msp_model_service.engines.lifecycle import Engine, EngineOptions
from msp_model_service.metrics import WorkerMetrics
from msp_model_service.request_record import CURRENT, RequestRecord
from msp_model_service.request_watch import RequestWatchMiddleware
from msp_model_service.usage_log import UsageLog
from support.worker_fakes import GatedEngine, Workbench, plan

PATH = "/v1/chat/completions"


class Clock:
    """Stands still unless told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def metrics() -> WorkerMetrics:
    made = WorkerMetrics()
    made.of_model(ServedModel(id="org/model", type=ModelType.LLM), version="1")
    return made


def page(made: WorkerMetrics) -> str:
    return generate_latest(made.registry).decode()


async def asked(app: ASGIApp, made: WorkerMetrics, clock: Clock, path: str = PATH) -> httpx.Response:
    watched = RequestWatchMiddleware(app, made, frozenset({PATH}), "org/model", UsageLog(1.0), clock)
    transport = httpx.ASGITransport(watched, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        return await http.post(path)


def line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    [record] = [r for r in caplog.records if r.message == "request"]
    written: dict[str, Any] = json.loads(formatter("model-service", "json").format(record))
    return written


def test_tokens_that_come_together_share_the_time_since_the_last(clock: Clock) -> None:
    gaps: list[float] = []
    record = RequestRecord(PATH, clock, on_gap=gaps.append)
    one, other = record.token_clock(), record.token_clock()
    clock.now = 101.0
    one.note(1)
    clock.now = 102.0
    other.note(5)
    one.note(0)
    clock.now = 103.0
    one.note(4)
    assert gaps == [0.5]
    assert record.since_began(record.first_token) == 1.0


async def test_a_stream_is_measured_from_its_arrival_to_its_last_byte(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        record = CURRENT.get()
        assert record is not None
        tokens = record.token_clock()

        async def frames() -> AsyncIterator[str]:
            yield "data: secret\n\n"
            for _ in range(3):
                clock.now += 0.04
                tokens.note(1)
                yield "data: words\n\n"

        clock.now += 0.2
        tokens.note(1)
        record.note_tokens(7, 4)
        await StreamingResponse(frames(), media_type="text/event-stream")(scope, receive, send)

    made = metrics()
    with caplog.at_level(logging.INFO):
        answer = await asked(app, made, clock)
    assert answer.headers["server-timing"] == "first-token;dur=200.0, head;dur=200.0"
    assert answer.headers["openai-processing-ms"] == "200"
    told = line(caplog)
    assert told["path"] == PATH
    assert (told["model"], told["status"], told["stream"], told["complete"]) == ("org/model", 200, True, True)
    assert (told["prompt_tokens"], told["completion_tokens"]) == (7, 4)
    assert (told["first_token_s"], told["duration_s"]) == (0.2, 0.32)
    assert "secret" not in json.dumps(told)
    shown = page(made)
    labels = f'{{model="org/model",path="{PATH}"}}'
    assert f"msp_worker_time_to_first_token_seconds_count{labels} 1.0" in shown
    assert f"msp_worker_inter_token_latency_seconds_count{labels} 3.0" in shown
    assert re.search(rf"msp_worker_inter_token_latency_seconds_sum{re.escape(labels)} 0\.1[12]", shown)
    assert f"msp_worker_request_completion_tokens_sum{labels} 4.0" in shown
    assert f"msp_worker_request_prompt_tokens_sum{labels} 7.0" in shown
    assert f'msp_worker_time_to_first_byte_seconds_count{{path="{PATH}"}} 1.0' in shown


async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("as told")


async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("as told")


async def says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """As when its client left."""


@pytest.mark.parametrize(("app", "status"), [(breaks, 500), (breaks_off, 200), (says_nothing, 499)])
async def test_what_goes_wrong_is_told_too(
    clock: Clock, caplog: pytest.LogCaptureFixture, app: ASGIApp, status: int
) -> None:
    made = metrics()
    # httpx's transport insists on an end.
    with caplog.at_level(logging.INFO), contextlib.suppress(AssertionError):
        await asked(app, made, clock)
    told = line(caplog)
    assert (told["status"], told["complete"]) == (status, False)
    assert f'msp_worker_requests_total{{path="{PATH}",status="{status}"}} 1.0' in page(made)
    assert CURRENT.get() is None


async def test_other_paths_are_not_watched(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        answer = await asked(PlainTextResponse("x"), metrics(), clock, "/health")
    assert "server-timing" not in answer.headers
    assert not [r for r in caplog.records if r.message == "request"]


@asynccontextmanager
async def serving(
    folder: Path, type: ModelType, make: Callable[[], Engine]
) -> AsyncIterator[tuple[Workbench, httpx.AsyncClient]]:
    bench = Workbench(folder, engine=make(), plan=plan(type))
    app = create_app(bench.worker, max_body_bytes=10_000, gpus=bench.monitor.latest)
    transport = httpx.ASGITransport(app)
    async with bench, httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        await bench.office.until(lambda lease: lease.state is WorkerState.READY)
        yield bench, http


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engines_tokens_are_timed_streamed_or_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    def make() -> Engine:
        return FakeChatEngine(EngineOptions(), ModelType.LLM)

    async with serving(tmp_path, ModelType.LLM, make) as (_, http):
        body = {"messages": [{"role": "user", "content": "one two three"}], "stream": stream}
        with caplog.at_level(logging.INFO):
            answer = await http.post(PATH, json=body)
        assert answer.status_code == 200
        assert re.fullmatch(r"first-token;dur=[0-9.]+, head;dur=[0-9.]+", answer.headers["server-timing"])
        told = line(caplog)
        assert told["request_id"] == answer.headers["x-request-id"]
        assert told["completion_tokens"] > 2
        assert told["first_token_s"] is not None
        assert "three" not in json.dumps(told)
        shown = (await http.get("/metrics")).text
        labels = f'{{model="org/model",path="{PATH}"}}'
        assert f"msp_worker_time_to_first_token_seconds_count{labels} 1.0" in shown
        [gaps] = re.findall(
            rf"msp_worker_inter_token_latency_seconds_count{re.escape(labels)} ([0-9]+)", shown
        )
        assert int(gaps) >= told["completion_tokens"] - 2


async def test_an_embeddings_tokens_are_told_and_it_has_no_first_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> Engine:
        return FakeEmbedder(EngineOptions())

    async with serving(tmp_path, ModelType.EMBEDDING, make) as (_, http):
        with caplog.at_level(logging.INFO):
            answer = await http.post("/v1/embeddings", json={"input": "a b"})
        assert re.fullmatch(r"head;dur=[0-9.]+", answer.headers["server-timing"])
        told = line(caplog)
        assert told["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
        assert (told["first_token_s"], told["completion_tokens"]) == (None, 0)


class TellingEngine(GatedEngine):
    """Knows its batch and its memory."""

    def figures(self) -> EngineFigures:
        return EngineFigures(batch_rows=3, kv_used=0.5, prompt_tokens_reused=40)


async def test_what_only_some_engines_tell_is_shown_for_them_alone(tmp_path: Path) -> None:
    names = ("msp_worker_batch_rows", "msp_worker_kv_used_ratio", "msp_worker_prompt_tokens_reused_total")
    async with serving(tmp_path, ModelType.EMBEDDING, lambda: GatedEngine().open_all()) as (bench, _):
        assert not [name for name in names if f"{name}{{" in page(bench.metrics)]
        assert "msp_worker_slots 3.0" in page(bench.metrics)
    async with serving(tmp_path, ModelType.EMBEDDING, lambda: TellingEngine().open_all()) as (bench, http):
        shown = (await http.get("/metrics")).text
        for name, value in zip(names, ("3.0", "0.5", "40.0"), strict=True):
            assert f'{name}{{model="org/model"}} {value}' in shown
        assert 'engine="gated"' in re.findall(r"msp_worker_info\{.*", shown)[0]


async def test_health_tells_how_long_each_phase_of_the_start_took(tmp_path: Path) -> None:
    async with serving(tmp_path, ModelType.EMBEDDING, lambda: GatedEngine().open_all()) as (_, http):
        phases = (await http.get("/health")).json()["start_phases_s"]
        assert set(phases) == {"fetch", "import", "weights"}
        assert all(seconds >= 0 for seconds in phases.values())


def test_an_idle_worker_has_its_series_already() -> None:
    made = metrics()
    made.follow_load(WorkerLoad)
    shown = page(made)
    assert 'msp_worker_info{engine="",model="org/model",revision="main",type="llm",version="1"} 1.0' in shown
    assert "msp_worker_slots 1.0" in shown
