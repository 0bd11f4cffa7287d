"""How long a job is followed while the registry is away."""

import httpx
import pytest

from msp_cli.job_following import follow
from msp_cli.registry_api import RegistryApi, ServiceAway, ServiceRefused
from msp_common.contracts.jobs import DownloadRequest, Job, JobState

JOB = Job(
    id="j1",
    repo_id="acme/chat",
    request=DownloadRequest(),
    state=JobState.DOWNLOADING,
    created_at=1,
    updated_at=1,
)


class Watching:
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.states: list[JobState] = []
        self.missed: list[str] = []

    def tell(self, job: Job) -> None:
        self.states.append(job.state)

    def away(self, job: Job, why: str) -> None:
        self.missed.append(why)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def followed(handler: httpx.MockTransport, time: Time, watching: Watching) -> Job:
    async with httpx.AsyncClient(transport=handler) as client:
        api = RegistryApi(client, "http://registry", None)
        return await follow(api, JOB, watching, patience_s=60, pause_s=1, sleep=time.sleep, clock=time)


async def test_a_registry_that_stays_away_ends_the_following_when_patience_is_over() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    time, watching = Time(), Watching()
    with pytest.raises(ServiceAway):
        await followed(httpx.MockTransport(refuse), time, watching)
    assert time.now == 60
    assert watching.states == [JobState.DOWNLOADING]


async def test_patience_begins_anew_each_time_the_registry_is_heard() -> None:
    time, watching = Time(), Watching()
    heard_at = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events") or time.now % 50:
            raise httpx.ConnectError("refused")
        heard_at.append(time.now)
        state = JobState.SUCCEEDED if time.now >= 200 else JobState.DOWNLOADING
        return httpx.Response(200, content=JOB.model_copy(update={"state": state}).model_dump_json())

    ended = await followed(httpx.MockTransport(answer), time, watching)
    assert ended.state is JobState.SUCCEEDED
    assert heard_at == [0, 50, 100, 150, 200]


async def test_a_job_that_the_registry_does_not_know_is_not_waited_for() -> None:
    time = Time()
    missing = httpx.MockTransport(lambda _: httpx.Response(404, json={"error": {"message": "no job"}}))
    with pytest.raises(ServiceRefused, match="no job"):
        await followed(missing, time, Watching())
    assert time.now == 0


async def test_a_job_that_has_ended_is_not_asked_for() -> None:
    watching = Watching()
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500))) as client:
        ended = JOB.model_copy(update={"state": JobState.SUCCEEDED})
        assert await follow(RegistryApi(client, "http://registry", None), ended, watching) is ended
    assert watching.states == [JobState.SUCCEEDED]
