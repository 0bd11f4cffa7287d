"""What a worker tells of each request by its id, whatever became of it."""

import asyncio
import io
import json
import threading
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.usage import RequestUsage, UsageReport
from msp_model_service.app import create_app
from msp_model_service.engines.fake_chat import FakeChatEngine
from msp_model_service.engines.fake_embedder import FakeEmbedder
from msp_model_service.engines.fake_transcriber import FakeTranscriber
from msp_model_service.engines.lifecycle import Engine, EngineOptions
from support.chat_fakes import Gate
from support.servers import run_server
from support.worker_fakes import PATIENCE_S, Workbench, plan

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@asynccontextmanager
async def serving(
    folder: Path, type: ModelType, engine: Engine, token: str | None = None
) -> AsyncIterator[tuple[Workbench, httpx.AsyncClient]]:
    """A real server: what an ended connection does is the point of half of this."""
    bench = Workbench(folder, engine=engine, plan=plan(type))
    app = create_app(
        bench.worker,
        max_body_bytes=10_000_000,
        gpus=bench.monitor.latest,
        cluster_token=SecretStr(token) if token else None,
    )
    with run_server(app) as url:
        assert await asyncio.to_thread(bench.office.settled.wait, PATIENCE_S)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
            yield bench, http


async def told(http: httpx.AsyncClient, after: int = 0, wait_s: float = 5) -> list[RequestUsage]:
    answer = await http.get("/usage", params={"after": after, "wait_s": wait_s})
    assert answer.status_code == 200, answer.text
    return UsageReport.model_validate_json(answer.content).requests


async def told_of(http: httpx.AsyncClient, request_id: str) -> RequestUsage:
    [one] = [usage for usage in await told(http) if usage.request_id == request_id]
    return one


def chat(gate: Gate | None = None) -> FakeChatEngine:
    return FakeChatEngine(EngineOptions(), ModelType.LLM, before_token=(gate or Gate()).before_token)


def named(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
async def test_the_tokens_of_an_answer_are_known_by_the_requests_id(
    tmp_path: Path, stream: bool, n: int
) -> None:
    async with serving(tmp_path, ModelType.LLM, chat()) as (_, http):
        asked = {**HELLO, "n": n}
        counted = (await http.post(CHAT, json=asked)).json()["usage"]
        answer = await http.post(CHAT, json={**asked, "stream": stream}, headers=named("mine-1"))
        assert stream == ('"usage"' not in answer.text)
        usage = await told_of(http, "mine-1")
    assert (usage.path, usage.status, usage.complete, usage.stream) == (CHAT, 200, True, stream)
    assert usage.prompt_tokens == counted["prompt_tokens"]
    assert usage.completion_tokens == counted["completion_tokens"]
    assert usage.first_token_s is not None
    assert usage.duration_s >= usage.first_token_s


async def test_what_a_stream_had_written_when_its_client_left_is_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, ModelType.LLM, chat(Gate())) as (_, http):
        asked = {**HELLO, "stream": True, "ignore_eos": True}
        async with http.stream("POST", CHAT, json=asked, headers=named("left")) as answer:
            await anext(answer.aiter_raw())
        usage = await told_of(http, "left")
    assert (usage.status, usage.complete, usage.stream) == (200, False, True)
    assert usage.completion_tokens
    assert usage.prompt_tokens == 11


async def test_a_whole_answer_that_its_client_did_not_wait_for_is_counted(tmp_path: Path) -> None:
    class HalfOpen(Gate):
        reached = threading.Event()

        async def before_token(self, index: int) -> None:
            if index >= 3:
                self.reached.set()
                await super().before_token(index)

    gate = HalfOpen(closed=True)
    async with serving(tmp_path, ModelType.LLM, chat(gate)) as (_, http):
        asked = http.post(CHAT, json={**HELLO, "ignore_eos": True}, headers=named("left"))
        task = asyncio.create_task(asked)
        assert await asyncio.to_thread(gate.reached.wait, PATIENCE_S)
        task.cancel()
        usage = await told_of(http, "left")
        gate.open()
    assert (usage.status, usage.complete, usage.completion_tokens) == (499, False, 3)


async def test_a_refused_request_used_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, ModelType.LLM, chat()) as (_, http):
        assert (await http.post(CHAT, json={"messages": []}, headers=named("bad"))).status_code == 400
        usage = await told_of(http, "bad")
    assert (usage.status, usage.complete) == (400, True)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.first_token_s) == (None, None, None)


async def test_embeddings_read_tokens(tmp_path: Path) -> None:
    async with serving(tmp_path, ModelType.EMBEDDING, FakeEmbedder(EngineOptions())) as (_, http):
        answer = await http.post("/v1/embeddings", json={"input": ["a b", "c"]}, headers=named("vectors"))
        usage = await told_of(http, "vectors")
    assert usage.prompt_tokens == answer.json()["usage"]["prompt_tokens"] > 0
    assert (usage.completion_tokens, usage.stream, usage.audio_s) == (0, False, None)


def recording(seconds: int) -> bytes:
    sound = np.sin(np.arange(seconds * 16_000) / 10)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes((sound * 20_000).astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_transcriptions_have_seconds(tmp_path: Path, stream: str) -> None:
    async with serving(tmp_path, ModelType.TRANSCRIPTION, FakeTranscriber(EngineOptions())) as (_, http):
        await http.post(
            "/v1/audio/transcriptions",
            files={"file": ("a.wav", recording(3))},
            data={"stream": stream},
            headers=named("heard"),
        )
        usage = await told_of(http, "heard")
    assert (usage.audio_s, usage.complete, usage.prompt_tokens) == (3.0, True, None)


async def test_of_a_recording_that_nobody_waits_for_what_was_heard_counts(tmp_path: Path) -> None:
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def before(number: int) -> None:
        if number == 3:
            loop.call_soon_threadsafe(reached.set)
            await asyncio.Event().wait()

    engine = FakeTranscriber(EngineOptions(), before)
    async with serving(tmp_path, ModelType.TRANSCRIPTION, engine) as (_, http):
        asked = http.post(
            "/v1/audio/transcriptions", files={"file": ("a.wav", recording(5))}, headers=named("left")
        )
        task = asyncio.create_task(asked)
        async with asyncio.timeout(PATIENCE_S):
            await reached.wait()
        task.cancel()
        usage = await told_of(http, "left")
    assert (usage.status, usage.audio_s, usage.complete) == (499, 2.0, False)


@pytest.mark.parametrize(("shown", "status"), [(None, 401), ("Bearer wrong", 401), ("Bearer secret", 200)])
async def test_only_the_cluster_may_read_it(tmp_path: Path, shown: str | None, status: int) -> None:
    async with serving(tmp_path, ModelType.LLM, chat(), token="secret") as (_, http):
        headers = {"authorization": shown} if shown else {}
        answer = await http.get("/usage", params={"wait_s": 0}, headers=headers)
        assert answer.status_code == status
        assert ("CLUSTER_TOKEN" in answer.text) == (status == 401)


@pytest.mark.parametrize("wrong", [{"after": -1}, {"wait_s": 61}, {"wait_s": -1}, {"after": "x"}])
async def test_questions_without_sense_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with serving(tmp_path, ModelType.LLM, chat()) as (_, http):
        answer = await http.get("/usage", params=wrong)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_log_line_and_the_report_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path, ModelType.LLM, chat()) as (_, http):
        with caplog.at_level("INFO"):
            await http.post(CHAT, json=HELLO, headers=named("both"))
            usage = await told_of(http, "both")
    [line] = [record.__dict__ for record in caplog.records if record.message == "request"]
    shown = json.loads(usage.model_dump_json(exclude={"cached_tokens"}))
    assert {name: line[name] for name in shown} == shown
