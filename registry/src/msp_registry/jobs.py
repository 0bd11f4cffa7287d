"""Jobs: work that outlives the request that asked for it, told by `GET /jobs/{id}`, kept in the store."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError

from msp_common.contracts.jobs import Job, JobState
from msp_registry.failures import Interrupted, JobFailure, StoreFailed, Unexpected
from msp_registry.layout import JOBS, job_key
from msp_registry.metrics import Metrics
from msp_registry.progress import Progress
from msp_registry.store import ObjectStore, StoreError, read_small, write_small

KEPT_ENDED_JOBS = 200
SAVE_EVERY_S = 2.0
"""How often mere progress is written to the store; a change of state is written at once."""

_MAX_JOB_BYTES = 1 << 20

Work = Callable[[Progress], Awaitable[None]]
log = logging.getLogger(__name__)


class RepoBusy(Exception):
    """Something else is being done to this model."""


class Jobs:
    """Runs jobs, a few at once, those of one model one after the other; remembers how they ended."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        parallel: int,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._new_id = new_id
        self._slots = asyncio.Semaphore(parallel)
        self._jobs: dict[str, Job] = {}
        self._saved_at: dict[str, float] = {}
        self._running: dict[Hashable, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._exclusive: set[str] = set()
        self.restored = asyncio.Event()
        """Set once the jobs of earlier processes are known; before, an unknown id may be one of theirs."""

    async def restore(self) -> None:
        """Read what an earlier process left. Raises StoreError.

        A job that had not ended then is FAILED now. Of the ended ones the newest KEPT_ENDED_JOBS are kept.
        """
        found = []
        async for stat in self._store.list(JOBS):
            try:
                job = Job.model_validate_json(await read_small(self._store, stat.key, _MAX_JOB_BYTES))
            except ValidationError as error:
                log.error("%s is no job and is passed over: %s", stat.key, error.errors()[0]["msg"])
                continue
            if job.id not in self._jobs:
                found.append(job)
        found.sort(key=lambda job: job.created_at, reverse=True)
        for job in found[KEPT_ENDED_JOBS:]:
            await self._store.delete(job_key(job.id))
        for job in found[:KEPT_ENDED_JOBS]:
            self._jobs[job.id] = job
            if not job.state.ended:
                reason = Interrupted("the registry was stopped while this job ran; ask for it again")
                self._change(job.id, state=JobState.FAILED, error=reason.as_error())
                await self._save(job.id)
        self.restored.set()

    def all(self) -> list[Job]:
        """Newest first."""
        return sorted(self._jobs.values(), key=lambda job: (job.created_at, job.id), reverse=True)

    def get(self, job_id: str) -> Job | None:
        """None when no such job is known."""
        return self._jobs.get(job_id)

    @property
    def running(self) -> int:
        """Jobs that have not ended, waiting ones included."""
        return len(self._running)

    async def submit(self, repo_id: str, revision: str, request: Hashable, work: Work) -> Job:
        """Start `work`, or give the job that runs for an equal request. Raises RepoBusy and StoreError."""
        same = self._running.get((repo_id, request))
        if same is not None:
            return self._jobs[same]
        if repo_id in self._exclusive:
            raise RepoBusy(f"{repo_id} is being deleted")
        now = self._clock()
        job = Job(
            id=self._new_id(),
            repo_id=repo_id,
            revision=revision,
            state=JobState.REQUESTED,
            created_at=now,
            updated_at=now,
        )
        self._jobs[job.id] = job
        self._running[repo_id, request] = job.id
        try:
            await self._save(job.id)
        except BaseException:
            del self._jobs[job.id], self._running[repo_id, request]
            raise
        self._tasks[job.id] = asyncio.create_task(self._run(job.id, (repo_id, request), work))
        return self._jobs[job.id]

    async def wait(self, job_id: str) -> Job:
        """The job once it has ended."""
        task = self._tasks.get(job_id)
        if task is not None:
            await asyncio.wait([task])
        return self._jobs[job_id]

    @asynccontextmanager
    async def exclusive(self, repo_id: str) -> AsyncGenerator[None, None]:
        """While this holds, no job of the model runs or starts. Raises RepoBusy when one does already."""
        busy = [job for job in self._jobs.values() if job.repo_id == repo_id and not job.state.ended]
        if busy:
            raise RepoBusy(f"job {busy[0].id} is bringing {repo_id} into the store; wait until it has ended")
        if repo_id in self._exclusive:
            raise RepoBusy(f"{repo_id} is being deleted already")
        self._exclusive.add(repo_id)
        try:
            yield
        finally:
            self._exclusive.discard(repo_id)

    async def stop(self) -> None:
        """Stop all; each job ends as FAILED, `interrupted`."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: str, request: Hashable, work: Work) -> None:
        repo_id = self._jobs[job_id].repo_id
        turn = self._turns.setdefault(repo_id, asyncio.Lock())
        failure: JobFailure | None = None
        try:
            # The turn first: a job that waits for its own model holds no slot meanwhile.
            async with turn, self._slots:
                await work(_Reporter(self, job_id))
        except JobFailure as reason:
            failure = reason
        except StoreError as error:
            failure = StoreFailed(str(error))
        except asyncio.CancelledError:
            failure = Interrupted("the registry was stopped while this job ran; ask for it again")
        except Exception as error:
            log.exception("job %s for %s failed unexpectedly", job_id, repo_id)
            failure = Unexpected(f"{type(error).__name__}; the registry's log has the cause")
        finally:
            await self._finish(job_id, request, failure)

    async def _finish(self, job_id: str, request: Hashable, failure: JobFailure | None) -> None:
        if failure is None:
            job = self._change(job_id, state=JobState.SUCCEEDED)
            log.info("job %s: %s@%s is in the store as %s", job.id, job.repo_id, job.revision, job.commit)
        else:
            job = self._change(job_id, state=JobState.FAILED, error=failure.as_error())
            log.warning("job %s for %s failed: %s: %s", job.id, job.repo_id, failure.code, failure)
        self._metrics.jobs_ended.labels(failure.code if failure else "succeeded").inc()
        self._running.pop(request, None)
        try:
            await self._save(job_id)
        except StoreError as error:
            log.error("the end of job %s could not be written to the store: %s", job_id, error)
        self._tasks.pop(job_id, None)
        self._saved_at.pop(job_id, None)
        await self._forget_old()

    async def _forget_old(self) -> None:
        ended = [job for job in self.all() if job.state.ended]
        for job in ended[KEPT_ENDED_JOBS:]:
            del self._jobs[job.id]
            try:
                await self._store.delete(job_key(job.id))
            except StoreError as error:
                log.warning("old job %s could not be removed from the store: %s", job.id, error)

    def _change(self, job_id: str, **changes: Any) -> Job:
        job = self._jobs[job_id].model_copy(update={**changes, "updated_at": self._clock()})
        self._jobs[job_id] = job
        return job

    async def _save(self, job_id: str) -> None:
        self._saved_at[job_id] = self._clock()
        await write_small(self._store, job_key(job_id), self._jobs[job_id].model_dump_json().encode())

    async def report(self, job_id: str, *, now: bool = False, **changes: Any) -> None:
        """A running job's news; `now` writes it at once, or raises StoreError.

        Otherwise it is written when that is due, and a store that fails then is the work's to notice.
        """
        self._change(job_id, **changes)
        if now:
            await self._save(job_id)
        elif self._clock() - self._saved_at.get(job_id, 0.0) >= SAVE_EVERY_S:
            try:
                await self._save(job_id)
            except StoreError as error:
                log.warning("progress of job %s could not be written to the store: %s", job_id, error)


class _Reporter:
    """The Progress of one job."""

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id

    @property
    def _job(self) -> Job:
        return self._jobs._jobs[self._job_id]

    async def enter(self, state: JobState, *, commit: str | None = None) -> None:
        await self._jobs.report(
            self._job_id, now=True, state=state, commit=commit if commit is not None else self._job.commit
        )

    async def expect(self, *, total_bytes: int, files: int) -> None:
        await self._jobs.report(self._job_id, bytes_total=total_bytes, files_total=files)

    async def moved(self, n_bytes: int) -> None:
        await self._jobs.report(self._job_id, bytes_done=self._job.bytes_done + n_bytes)

    async def file_done(self) -> None:
        await self._jobs.report(self._job_id, files_done=self._job.files_done + 1)
