"""Jobs over HTTP: found, filtered, cancelled by those who may, and followed as server-sent events."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect
from starlette.types import Message

from msp_common import sse
from msp_common.contracts.jobs import Job, JobState
from msp_common.http_app import new_app
from msp_registry.jobs.jobs import Jobs, Work
from msp_registry.jobs.progress import Progress
from msp_registry.routes import jobs as routes
from msp_registry.routes.job_events import KEEP_ALIVE, JobEvents, framed
from support.registry_jobs import Gate, asking, failing, jobs_over, nothing
from support.registry_memory_store import MemoryStore
from support.servers import run_server


def app_over(jobs: Jobs, *, admin_token: str | None = None, lifespan: Any = None) -> FastAPI:
    app = new_app("registry", "jobs only", metrics=CollectorRegistry(), lifespan=lifespan)
    app.include_router(routes.router)
    app.state.parts = SimpleNamespace(jobs=jobs, admin_token=admin_token)
    return app


@asynccontextmanager
async def client_of(jobs: Jobs, **options: Any) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(app_over(jobs, **options))
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
        yield http


async def restored(work: Work = nothing) -> Jobs:
    jobs = jobs_over(MemoryStore(), work)
    await jobs.restore()
    return jobs


async def test_a_job_is_told_with_what_was_asked() -> None:
    jobs = await restored()
    job = await jobs.submit("org/a", asking("v1"))
    ended = await jobs.wait(job.id)
    async with client_of(jobs) as http:
        answer = await http.get(f"/jobs/{job.id}")
        assert Job.model_validate(answer.json()) == ended
        assert answer.json()["revision"] == "v1"


async def test_the_list_is_filtered_by_state_and_model() -> None:
    gate = Gate()
    jobs = await restored(gate)
    a = await jobs.submit("org/a", asking())
    b = await jobs.submit("org/b", asking())
    await jobs.cancel(b.id)
    await gate.begun.wait()

    async with client_of(jobs) as http:

        async def ids(**query: Any) -> set[str]:
            return {job["id"] for job in (await http.get("/jobs", params=query)).json()["jobs"]}

        assert await ids() == {a.id, b.id}
        assert await ids(state="CANCELLED") == {b.id}
        assert await ids(state=["CANCELLED", "DOWNLOADING"]) == {a.id, b.id}
        assert await ids(model="org/a") == {a.id}
        assert await ids(model="org/a", state="CANCELLED") == set()
        refused = await http.get("/jobs", params={"state": "DREAMING"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "state.0")
    await jobs.stop()


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
async def test_an_unknown_job_is_not_found_and_before_old_jobs_are_read_nobody_knows(
    method: str, path: str
) -> None:
    jobs = jobs_over(MemoryStore())
    async with client_of(jobs) as http:
        assert (await http.request(method, f"/jobs/nobody{path}")).status_code == 503
        await jobs.restore()
        answer = await http.request(method, f"/jobs/nobody{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


async def test_a_job_is_cancelled_once() -> None:
    gate = Gate()
    jobs = await restored(gate)
    job = await jobs.submit("org/a", asking())
    async with client_of(jobs) as http:
        answer = await http.post(f"/jobs/{job.id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")
        again = await http.post(f"/jobs/{job.id}/cancel")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "job_ended")


async def test_only_the_admin_cancels_and_everyone_may_look() -> None:
    gate = Gate()
    jobs = await restored(gate)
    job = await jobs.submit("org/a", asking())
    async with client_of(jobs, admin_token="letmein") as http:
        assert (await http.post(f"/jobs/{job.id}/cancel")).status_code == 401
        assert (await http.get(f"/jobs/{job.id}")).status_code == 200
        allowed = await http.post(f"/jobs/{job.id}/cancel", headers={"Authorization": "Bearer letmein"})
        assert allowed.status_code == 200


async def test_the_events_end_with_the_ended_job() -> None:
    jobs = await restored(failing(ValueError()))
    job = await jobs.submit("org/a", asking())
    async with client_of(jobs) as http, http.stream("GET", f"/jobs/{job.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        events = [event async for event in sse.read(answer.aiter_lines())]
    assert {event.event for event in events} == {"job"}
    last = Job.model_validate_json(events[-1].data)
    assert last.state is JobState.FAILED
    assert json.loads(events[-1].data)["error"]["code"] == "unexpected"


async def test_silence_is_broken_by_comments_that_clients_do_not_see() -> None:
    gate = Gate()
    jobs = await restored(gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    frames = framed(jobs.watch(job.id), keep_alive_s=0.01)
    first = await anext(frames)
    assert first.startswith(b"event: job\ndata: {")
    assert [await anext(frames), await anext(frames)] == [KEEP_ALIVE, KEEP_ALIVE]
    gate.let_go.set()
    rest = [frame async for frame in frames if frame != KEEP_ALIVE]
    assert [b"SUCCEEDED" in frame for frame in rest] == [True]

    async def lines() -> AsyncGenerator[str, None]:
        for line in (KEEP_ALIVE + first + KEEP_ALIVE).decode().splitlines():
            yield line

    assert len([event async for event in sse.read(lines())]) == 1


async def test_events_nobody_reads_to_the_end_leave_no_watcher() -> None:
    gate = Gate()
    jobs = await restored(gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    watching = jobs.watch(job.id)
    frames = framed(watching, keep_alive_s=3600)
    await anext(frames)
    assert jobs.watchers == 1
    await frames.aclose()
    assert jobs.watchers == 0
    await jobs.stop()


async def test_a_hang_up_while_an_event_is_sent_leaves_no_watcher() -> None:
    gate = Gate()
    jobs = await restored(gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    watching = jobs.watch(job.id)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            assert jobs.watchers == 1
            raise OSError("the client is gone")

    with pytest.raises(ClientDisconnect):
        await JobEvents(watching)({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert jobs.watchers == 0
    await jobs.stop()


class _Server:
    """The routes on a real port, with one job that runs until it is let go."""

    @contextmanager
    def run(self) -> Iterator[str]:
        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncGenerator[None, None]:
            self.jobs = jobs_over(MemoryStore(), self._work)
            await self.jobs.restore()
            await self.jobs.submit("org/a", asking())
            app.state.parts = SimpleNamespace(jobs=self.jobs, admin_token=None)
            yield
            await self.jobs.stop()

        app = app_over(jobs_over(MemoryStore()), lifespan=lifespan)

        @app.get("/watchers")
        async def watchers() -> int:
            return self.jobs.watchers

        with run_server(app) as url:
            yield url

    async def _work(self, job: Job, progress: Progress) -> None:
        await progress.enter(JobState.DOWNLOADING)
        await asyncio.Event().wait()


async def test_a_client_that_leaves_is_not_told_any_more() -> None:
    with _Server().run() as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            async with http.stream("GET", "/jobs/job-1/events") as answer:
                assert await anext(answer.aiter_lines()) == "event: job"
                assert (await http.get("/watchers")).json() == 1
            async with asyncio.timeout(10):
                while (await http.get("/watchers")).json() != 0:
                    pass
