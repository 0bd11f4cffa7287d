"""The service registry as others see it, over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from msp_common.contracts.health import Health
from msp_common.contracts.workers import Services, Snapshot, Verdict, WorkerState
from msp_common.settings import SettingsError
from msp_service_registry.app import create_app
from msp_service_registry.settings import ServiceRegistrySettings
from support.service_registry_fakes import FakeClock, FakeHealth, FakeProber, lease

REGISTRY, GATEWAY = "http://registry:8090", "http://gateway:8080"


class Served:
    """The application behind its routes, and what it stands on."""

    def __init__(
        self, client: httpx.AsyncClient, clock: FakeClock, health: FakeHealth, prober: FakeProber
    ) -> None:
        self.client = client
        self.clock = clock
        self.health = health
        self.prober = prober

    async def put(
        self, worker_id: str = "llm", *, token: str | None = None, **about: object
    ) -> httpx.Response:
        return await self.client.put(
            f"/workers/{worker_id}",
            json=lease(**about).model_dump(mode="json"),  # type: ignore[arg-type]
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    async def services(self) -> Services:
        return Services.model_validate_json((await self.client.get("/services")).content)


@asynccontextmanager
async def serving(**environ: str) -> AsyncIterator[Served]:
    clock = FakeClock()
    fine = Health(status="ok", service="registry", version="0.1.0")
    health = FakeHealth({REGISTRY: fine, GATEWAY: "/health: refused"})
    prober = FakeProber(clock)
    app = create_app(ServiceRegistrySettings.load(environ), clock=clock, prober=prober, health_reader=health)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://sr") as client,
    ):
        yield Served(client, clock, health, prober)


async def test_a_worker_registers_is_listed_and_leaves() -> None:
    async with serving() as served:
        granted = await served.put(in_flight=2)
        assert granted.json()["lease_s"] == 10
        snapshot = Snapshot.model_validate_json((await served.client.get("/workers")).content)
        assert [(w.id, w.verdict, w.lease.load.in_flight) for w in snapshot.workers] == [
            ("llm", Verdict.READY, 2)
        ]
        assert granted.json()["generation"] == snapshot.generation
        assert (await served.client.delete("/workers/llm")).status_code == 204
        assert (await served.client.get("/workers")).json()["workers"] == []


@pytest.mark.parametrize("worker_id", ["a b", "a" * 129, "ü", "a;b"])
async def test_an_id_that_is_none_is_refused_by_name(worker_id: str) -> None:
    async with serving() as served:
        answer = await served.put(worker_id)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "worker_id"


@pytest.mark.parametrize("url", ["llm:8000", "file:///etc/passwd", "http://llm:8000/"])
async def test_a_url_that_nobody_could_call_is_refused(url: str) -> None:
    async with serving() as served:
        answer = await served.put(url=url)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "url"


async def test_a_lease_without_a_model_is_refused_by_the_field_s_name() -> None:
    async with serving() as served:
        answer = await served.client.put("/workers/llm", json={"url": "http://llm:8000"})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "host"


async def test_a_body_beyond_the_limit_is_refused() -> None:
    async with serving() as served:
        answer = await served.put(reason="x" * (1 << 20))
        assert answer.status_code == 413


@pytest.mark.parametrize("shown", [None, "wrong", "secre", "secret2", "sécret"])
async def test_with_a_token_set_nobody_registers_removes_or_reports_without_it(shown: str | None) -> None:
    async with serving(CLUSTER_TOKEN="secret") as served:
        headers = {b"Authorization": f"Bearer {shown}".encode()} if shown else {}
        body = lease().model_dump(mode="json")
        refused = await served.client.put("/workers/llm", json=body, headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await served.put(token="secret")).status_code == 200
        assert (await served.client.delete("/workers/llm", headers=headers)).status_code == 401
        told = await served.client.post("/workers/llm/reports", json={"kind": "reset"}, headers=headers)
        assert told.status_code == 401
        assert len((await served.client.get("/workers")).json()["workers"]) == 1


async def test_reports_turn_the_verdict_and_are_counted() -> None:
    async with serving() as served:
        await served.put()
        for _ in range(3):
            answer = await served.client.post("/workers/llm/reports", json={"kind": "refused"})
            assert answer.status_code == 204
        (worker,) = (await served.client.get("/workers")).json()["workers"]
        assert worker["verdict"] == "unhealthy"
        metrics = (await served.client.get("/metrics")).text
        assert 'msp_service_registry_reports_total{kind="refused"} 3.0' in metrics
        assert 'msp_service_registry_workers{verdict="unhealthy"} 1.0' in metrics
        assert "msp_service_registry_heartbeats_total 1.0" in metrics


async def test_reports_about_strangers_and_of_unknown_kinds_are_refused() -> None:
    async with serving() as served:
        assert (await served.client.post("/workers/x/reports", json={"kind": "ok"})).status_code == 404
        await served.put()
        wrong = await served.client.post("/workers/llm/reports", json={"kind": "tired"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "kind")


async def test_a_silent_worker_becomes_suspect_then_unhealthy_in_services() -> None:
    async with serving() as served:
        await served.put()
        seen = []
        for seconds in (4, 1, 6):
            await served.clock.advance(seconds)
            line = (await served.services()).services[-1]
            seen.append((line.status, line.heartbeat_age_s))
        assert seen == [("ready", 4), ("suspect", 5), ("unhealthy", 11)]


async def test_services_list_the_programs_and_what_each_worker_is_doing() -> None:
    async with serving(REGISTRY_URL=REGISTRY, GATEWAY_URL=f"{GATEWAY}/") as served:
        await served.put(state=WorkerState.FETCHING, progress=0.25, reason="model.safetensors")
        lines = {line.name: line for line in (await served.services()).services}
        assert list(lines) == ["service-registry", "gateway", "registry", "llm"]
        assert lines["service-registry"].status == "ok"
        assert (lines["gateway"].status, lines["gateway"].reason) == ("down", "/health: refused")
        assert (lines["registry"].status, lines["registry"].version) == ("ok", "0.1.0")
        worker = lines["llm"]
        assert (worker.status, worker.progress, worker.reason) == ("fetching", 0.25, "model.safetensors")
        assert worker.model is not None
        assert worker.model.id == "samples/chat"


async def test_services_do_not_wait_for_a_program_that_hangs() -> None:
    async with serving(REGISTRY_URL=REGISTRY) as served:
        served.health.gate = asyncio.Event()
        line = (await served.services()).services[1]
        assert (line.status, line.reason) == ("down", "/health has not answered yet")
        served.health.gate.set()
        assert (await served.services()).services[1].status == "ok"


async def test_many_askers_cost_a_program_one_question() -> None:
    async with serving(REGISTRY_URL=REGISTRY) as served:
        await asyncio.gather(*(served.services() for _ in range(20)))
        assert served.health.asked == [REGISTRY]
        await served.clock.advance(2)
        await served.services()
        assert served.health.asked == [REGISTRY, REGISTRY]


async def test_targets_are_in_prometheus_s_form() -> None:
    async with serving(REGISTRY_URL="https://registry.example:8090/base") as served:
        await served.put(url="http://llm:8000")
        assert (await served.client.get("/targets")).json() == [
            {
                "targets": ["registry.example:8090"],
                "labels": {
                    "__scheme__": "https",
                    "__metrics_path__": "/base/metrics",
                    "job": "registry",
                },
            },
            {
                "targets": ["llm:8000"],
                "labels": {
                    "__scheme__": "http",
                    "__metrics_path__": "/metrics",
                    "job": "worker",
                    "worker": "llm",
                    "model": "samples/chat",
                    "model_type": "llm",
                },
            },
        ]


async def test_health_is_ok_without_any_worker() -> None:
    async with serving() as served:
        answer = await served.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_health_is_down_once_a_background_task_broke() -> None:
    async with serving() as served:
        served.prober.breaks = True
        await served.put()
        await served.client.post("/workers/llm/reports", json={"kind": "reset"})
        await served.clock.advance(1)
        answer = await served.client.get("/health")
        assert answer.status_code == 503
        assert answer.json()["reason"] == "background task broke: probing; restart this service"
        assert (await served.services()).services[0].status == "down"


async def test_gpu_stats_say_why_there_is_none() -> None:
    async with serving() as served:
        await served.put()
        stats = (await served.client.get("/gpu-stats")).json()
        assert stats["gpus"] is None
        assert stats["without_gpu"][0]["reason"] == "NVML: driver not loaded"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"SERVICE_REGISTRY_PORT": "eighty"}, "SERVICE_REGISTRY_PORT"),
        ({"SERVICE_REGISTRY_PROT": "8081"}, "did you mean SERVICE_REGISTRY_PORT"),
        ({"SERVICE_REGISTRY_REMOVE_AFTER_S": "0"}, "SERVICE_REGISTRY_REMOVE_AFTER_S"),
        ({"REGISTRY_URL": "registry:8090"}, "REGISTRY_URL"),
    ],
)
def test_malformed_settings_are_refused_by_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        ServiceRegistrySettings.load(environ)


def test_the_cluster_s_token_shows_up_nowhere() -> None:
    assert "hush" not in repr(ServiceRegistrySettings.load({"CLUSTER_TOKEN": "hush"}))
