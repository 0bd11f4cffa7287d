"""The service registry is asked over real HTTP; no answer is told from nobody."""

import httpx
import pytest
from fastapi import FastAPI, Response

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import ServedModel, Snapshot, Verdict, Worker, WorkerLease, WorkerState
from msp_registry.usage import ServiceRegistryUsage, UsageUnknown, users
from support.servers import free_port, run_server


def service_registry(status: int, body: str) -> FastAPI:
    app = FastAPI()

    @app.get("/workers")
    async def workers() -> Response:
        return Response(body, status, media_type="application/json")

    return app


async def test_an_empty_snapshot_means_nobody() -> None:
    with run_server(service_registry(200, '{"generation": 1, "taken_at": 0, "workers": []}')) as url:
        async with httpx.AsyncClient() as client:
            assert await ServiceRegistryUsage(url, client).workers_of("org/a") == []


@pytest.mark.parametrize(("status", "body"), [(503, "{}"), (200, "{}"), (200, "<html>")])
async def test_an_answer_that_says_nothing_is_not_nobody(status: int, body: str) -> None:
    with run_server(service_registry(status, body)) as url:
        async with httpx.AsyncClient() as client:
            with pytest.raises(UsageUnknown, match=url):
                await ServiceRegistryUsage(url, client).workers_of("org/a")


async def test_no_connection_is_not_nobody() -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(UsageUnknown, match="ConnectError"):
            await ServiceRegistryUsage(f"http://127.0.0.1:{free_port()}", client).workers_of("org/a")


A, B = "a" * 40, "b" * 40


def worker(name: str, model: str, commit: str | None, verdict: Verdict = Verdict.READY) -> Worker:
    lease = WorkerLease(
        url=f"http://{name}",
        host="host",
        model=ServedModel(id=model, type=ModelType.LLM, commit=commit),
        state=WorkerState.READY,
        version="1",
        started_at=0,
    )
    return Worker(id=name, verdict=verdict, heartbeat_at=0, lease=lease)


SNAPSHOT = Snapshot(
    generation=1,
    taken_at=0,
    workers=[
        worker("two", "org/a", B),
        worker("one", "org/a", A, Verdict.SUSPECT),
        worker("new", "org/a", None, Verdict.STARTING),
        worker("dead", "org/a", A, Verdict.UNHEALTHY),
        worker("broken", "org/a", A, Verdict.FAILED),
        worker("other", "org/b", A),
    ],
)


def test_a_commit_is_used_by_those_who_name_it_and_those_who_do_not_know_theirs() -> None:
    assert users(SNAPSHOT, "org/a", A) == ["new", "one"]
    assert users(SNAPSHOT, "org/a", B) == ["new", "two"]
    assert users(SNAPSHOT, "org/a") == ["new", "one", "two"]
    assert users(SNAPSHOT, "org/none") == []


async def test_the_commit_is_asked_for_over_http() -> None:
    with run_server(service_registry(200, SNAPSHOT.model_dump_json())) as url:
        async with httpx.AsyncClient() as client:
            assert await ServiceRegistryUsage(url, client).workers_of("org/a", B) == ["new", "two"]
