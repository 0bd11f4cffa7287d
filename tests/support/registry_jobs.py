"""What tests of jobs are made of: a clock, ticks instead of sleep, work that waits, work by request."""

import asyncio
from collections.abc import Callable
from itertools import count

from msp_common.contracts.jobs import DownloadRequest, Job, JobState
from msp_registry.jobs.jobs import Jobs, Work
from msp_registry.jobs.progress import Progress
from msp_registry.metrics import Metrics
from msp_registry.stores.store import ObjectStore
from support.registry_memory_store import MemoryStore


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Ticks:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self._sleepers: list[asyncio.Event] = []
        self.slept = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append(woken)
        self.slept.set()
        await woken.wait()

    async def tick(self) -> None:
        """Wake all that sleep, and return once somebody sleeps again."""
        await self.slept.wait()
        self.slept.clear()
        sleepers, self._sleepers = self._sleepers, []
        for woken in sleepers:
            woken.set()
        await self.slept.wait()


class Gate:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self.progress: Progress | None = None

    async def __call__(self, job: Job, progress: Progress) -> None:
        self.progress = progress
        await progress.enter(JobState.DOWNLOADING, commit="a" * 40)
        self.begun.set()
        await self.let_go.wait()


async def nothing(job: Job, progress: Progress) -> None:
    """Work that is done at once."""


def failing(error: BaseException) -> Work:
    """Work that raises."""

    async def work(job: Job, progress: Progress) -> None:
        raise error

    return work


class ByRevision:
    """Work that differs by the revision that was asked for; remembers the jobs it was given, in order."""

    def __init__(self, **works: Work) -> None:
        self.works = works
        self.given: list[Job] = []

    async def __call__(self, job: Job, progress: Progress) -> None:
        self.given.append(job)
        await self.works.get(str(job.revision), nothing)(job, progress)


def asking(revision: str = "main") -> DownloadRequest:
    """A request."""
    return DownloadRequest(revision=revision)


def jobs_over(
    store: ObjectStore,
    work: Work = nothing,
    *,
    parallel: int = 2,
    clock: Callable[[], float] | None = None,
    ticks: Ticks | None = None,
    first: int = 1,
    metrics: Metrics | None = None,
    answer_within_s: float = 10,
    watch_gap_s: float = 0,
    watch_refresh_s: float = 3600,
) -> Jobs:
    """Jobs with ids `job-1`, `job-2`, ... Without `ticks`, mere progress is never saved."""
    numbers = count(first)
    return Jobs(
        store,
        work,
        parallel=parallel,
        clock=clock or Clock(),
        new_id=lambda: f"job-{next(numbers)}",
        metrics=metrics or Metrics(),
        sleep=(ticks or Ticks()).sleep,
        answer_within_s=answer_within_s,
        watch_gap_s=watch_gap_s,
        watch_refresh_s=watch_refresh_s,
    )


def kept(store: MemoryStore, job_id: str) -> Job:
    """The job as the store has it."""
    return Job.model_validate_json(store.objects[f".registry/jobs/{job_id}.json"])


class StuckStore(MemoryStore):
    """A store whose writes wait, as a patient one's do while the server is away."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.waiting = asyncio.Event()
        """Set once a write waits."""

    async def put(self, key: str, data: bytes) -> None:
        if not self.answers.is_set():
            self.waiting.set()
            await self.answers.wait()
        await super().put(key, data)
