"""What a worker answers over HTTP, from its first second on."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import WorkerState
from msp_model_service.app import create_app
from msp_model_service.engines.fake_embedder import FakeEmbedder
from msp_model_service.engines.lifecycle import EngineOptions, OnPhase
from support.worker_fakes import PATIENCE_S, ScriptedWeights, Workbench, gpu, plan

S = WorkerState


class SlowEmbedder(FakeEmbedder):
    """Loads when the test says so."""

    def __init__(self) -> None:
        super().__init__(EngineOptions())
        self.go = threading.Event()

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        on_phase("weights", 0.5)
        assert self.go.wait(PATIENCE_S)
        super().load(folder, on_phase)


def client(bench: Workbench, max_body_bytes: int = 10_000) -> httpx.AsyncClient:
    app = create_app(bench.worker, max_body_bytes=max_body_bytes, gpus=bench.monitor.latest)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://worker")


@contextmanager
def slow_embedder(folder: Path) -> Iterator[tuple[Workbench, SlowEmbedder]]:
    engine = SlowEmbedder()
    try:
        yield Workbench(folder, engine=engine), engine
    finally:
        engine.go.set()


async def test_a_worker_answers_while_it_loads_and_serves_when_it_is_ready(tmp_path: Path) -> None:
    with slow_embedder(tmp_path) as (bench, engine):
        async with bench, client(bench) as http:
            await bench.office.until(lambda lease: lease.state is S.LOADING)
            body = {"model": "org/model", "input": "hello"}

            health = await http.get("/health")
            assert health.status_code == 503
            assert health.json()["status"] == "down"
            assert health.json()["state"] == "loading"
            assert "progress" in health.json()
            assert health.json()["reason"].startswith("loading")
            assert (await http.get("/livez")).status_code == 200
            [item] = (await http.get("/v1/models")).json()["data"]
            assert item["state"] == "loading"
            assert "conformance" not in item, "of a model that is not known yet"
            refused = await http.post("/v1/embeddings", json=body)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "5"
            assert refused.json()["error"]["code"] == "service_unavailable"
            assert "org/model is not ready here: loading" in refused.json()["error"]["message"]

            engine.go.set()
            await bench.office.until(lambda lease: lease.state is S.READY)
            health = await http.get("/health")
            assert (health.status_code, health.json()["status"], health.json()["reason"]) == (200, "ok", None)
            answer = await http.post("/v1/embeddings", json=body)
            assert answer.status_code == 200
            assert answer.headers["x-request-id"]
            page = (await http.get("/metrics")).text
            assert 'msp_worker_requests_total{path="/v1/embeddings",status="200"} 1.0' in page
            assert 'msp_worker_requests_total{path="/v1/embeddings",status="503"} 1.0' in page
            assert 'msp_worker_time_to_first_byte_seconds_count{path="/v1/embeddings"} 2.0' in page


async def test_a_broken_engine_makes_health_503_with_its_reason(tmp_path: Path) -> None:
    async with Workbench(tmp_path) as bench, client(bench) as http:
        await bench.office.until(lambda lease: lease.state is S.READY)
        bench.gated.broken = "CUDA error"
        health = await http.get("/health")
        assert health.status_code == 503
        assert health.json()["state"] == "failed"
        assert health.json()["parts"]["model"] == {"status": "down", "reason": "CUDA error"}


async def test_a_worker_without_its_service_registry_is_degraded_but_serves(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.office.away = "it cannot be reached"
    async with bench, client(bench) as http:
        async with asyncio.timeout(PATIENCE_S):
            while bench.worker.status.state is not S.READY:
                await bench.office.next_attempt()
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["parts"]["lease"]["reason"] == "it cannot be reached"


async def test_health_says_when_the_registry_was_not_asked(tmp_path: Path) -> None:
    weights = ScriptedWeights(tmp_path, note="the registry is away; serving the copy in the cache")
    async with Workbench(tmp_path, weights=weights) as bench, client(bench) as http:
        await bench.office.until(lambda lease: lease.state is S.READY)
        health = (await http.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["parts"]["weights"]["reason"] == "the registry is away; serving the copy in the cache"


async def test_health_says_why_another_engine_serves_the_model(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.gated.note = "requests are answered one at a time: ALiBi"
    async with bench, client(bench) as http:
        await bench.office.until(lambda lease: lease.state is S.READY)
        health = (await http.get("/health")).json()
        assert (health["status"], health["parts"]["engine"]["reason"]) == ("ok", bench.gated.note)


async def test_models_lists_the_one_model_and_no_null(tmp_path: Path) -> None:
    async with Workbench(tmp_path) as bench, client(bench) as http:
        await bench.office.until(lambda lease: lease.state is S.READY)
        page = (await http.get("/v1/models")).json()
        [item] = page["data"]
        created = item.pop("created")
        card = item.pop("conformance")
        assert page["object"] == "list"
        assert isinstance(created, int)
        assert (card["engine"], list(card["paths"])) == ("gated", ["/v1/embeddings"])
        assert "null" not in json.dumps(page)
        assert item == {
            "id": "org/model",
            "object": "model",
            "owned_by": "org",
            "type": "embedding",
            "state": "ready",
            "architecture": {"input_modalities": ["text"]},
            "aliases": ["nick"],
            "context_length": 512,
            "engine": "gated",
        }


@pytest.mark.parametrize("name", ["org/model", "org%2Fmodel", "nick"])
async def test_the_model_is_found_raw_encoded_and_by_alias(tmp_path: Path, name: str) -> None:
    bench = Workbench(tmp_path)
    async with client(bench) as http:
        answer = await http.get(f"/v1/models/{name}")
        assert answer.status_code == 200
        assert answer.json()["id"] == "org/model"
        assert None not in answer.json().values()


async def test_another_model_is_not_found(tmp_path: Path) -> None:
    async with client(Workbench(tmp_path)) as http:
        answer = await http.get("/v1/models/org/other")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"


async def test_an_embedding_model_asked_to_chat_says_what_it_is(tmp_path: Path) -> None:
    async with client(Workbench(tmp_path)) as http:
        answer = await http.post("/v1/chat/completions", json={"messages": []})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == "model"
        assert error["message"] == (
            "/v1/chat/completions needs a model of type llm or multimodal, but this worker serves org/model "
            "of type embedding at /v1/embeddings."
        )


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/images/generations"])
async def test_paths_that_no_worker_has_are_404_and_say_what_is_served(tmp_path: Path, path: str) -> None:
    async with client(Workbench(tmp_path)) as http:
        answer = await http.post(path, json={})
        assert answer.status_code == 404
        assert "serves org/model of type embedding" in answer.json()["error"]["message"]


@pytest.mark.parametrize("type", list(ModelType))
async def test_each_type_answers_its_own_paths_and_refuses_the_others(
    tmp_path: Path, type: ModelType
) -> None:
    async with client(Workbench(tmp_path, plan=plan(type))) as http:
        for path in sorted({p for t in ModelType for p in t.paths}):
            answer = await http.post(path, json={})
            refused = "needs a model of type" in answer.text
            assert refused is (path not in type.paths), (path, answer.text)
            assert answer.json()["error"]["type"] in ("invalid_request_error", "server_error")


@pytest.mark.parametrize(
    ("report", "answer"),
    [
        (
            GpuReport(reason="NVML cannot be used here: no driver"),
            {"gpus": None, "reason": "NVML cannot be used here: no driver"},
        ),
        (
            GpuReport(gpus=[gpu(0)]),
            {"gpus": [gpu(0).model_dump()], "reason": None},
        ),
    ],
)
async def test_gpu_stats_are_the_truth_or_null_with_the_reason(
    tmp_path: Path, report: GpuReport, answer: dict[str, Any]
) -> None:
    async with Workbench(tmp_path, gpus=report) as bench, client(bench) as http:
        await bench.office.until(lambda lease: lease.state is S.READY)
        assert (await http.get("/gpu-stats")).json() == answer


async def test_a_body_above_the_limit_is_413_with_a_request_id_and_counted(tmp_path: Path) -> None:
    async with Workbench(tmp_path) as bench, client(bench) as http:

        async def endless() -> Any:
            for _ in range(50):
                yield b"x" * 1000

        for content in (b"x" * 20_000, endless()):
            answer = await http.post(
                "/v1/embeddings", content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "payload_too_large"
            assert answer.headers["x-request-id"]
        page = (await http.get("/metrics")).text
        assert 'msp_worker_requests_total{path="/v1/embeddings",status="413"} 2.0' in page


@pytest.mark.parametrize("type", list(ModelType))
async def test_the_documentation_needs_no_internet_and_shows_the_types_own_paths(
    tmp_path: Path, type: ModelType
) -> None:
    async with client(Workbench(tmp_path, plan=plan(type))) as http:
        page = (await http.get("/docs")).text
        assert "https://" not in page
        paths = set((await http.get("/openapi.json")).json()["paths"])
        assert {"/v1/models", "/health", "/livez", "/gpu-stats", "/metrics"} <= paths
        assert {p for t in ModelType for p in t.paths} & paths == set(type.paths)


async def test_what_strangers_ask_for_makes_no_new_series(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    async with client(bench) as http:
        await http.get("/wp-login.php")
        assert "wp-login" not in (await http.get("/metrics")).text


async def test_tokens_and_sound_are_counted(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.metrics.observe_tokens(7, 3)
    bench.metrics.observe_tokens(1, 0)
    bench.metrics.observe_audio(2.5)
    async with client(bench) as http:
        page = (await http.get("/metrics")).text
        assert 'msp_worker_tokens_total{kind="prompt"} 8.0' in page
        assert 'msp_worker_tokens_total{kind="completion"} 3.0' in page
        assert "msp_worker_audio_seconds_total 2.5" in page
