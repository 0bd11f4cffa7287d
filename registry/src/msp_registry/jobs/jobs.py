"""Jobs: work that outlives the request that asked for it, told by `GET /jobs/{id}`, kept in the store."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from msp_common.contracts.jobs import Job, JobRequest, JobState
from msp_registry.failures import JobFailure, Unexpected
from msp_registry.jobs.job_failures import failure_of
from msp_registry.jobs.job_records import JobRecords, asked_anew, beyond_the_kept
from msp_registry.jobs.live_job import LiveJob
from msp_registry.jobs.progress import Progress
from msp_registry.metrics import Metrics
from msp_registry.stores.store import ObjectStore, StoreError, StoreUnavailable

SAVE_EVERY_S = 2.0
"""How often mere progress is written to the store; a change of state is written at once."""

_LONGEST_PAUSE_S = 60.0
"""Between tries to write how a job ended, into a store that stays full or away."""

WATCH_GAP_S = 0.25
WATCH_REFRESH_S = 2.0

Work = Callable[[Job, Progress], Awaitable[None]]
"""Does what a job was asked to do. Raises JobFailure and StoreError."""

log = logging.getLogger(__name__)


class RepoBusy(Exception):
    """Something else is being done to this model."""


class NoSuchJob(LookupError):
    """No job has this id, or it ended long ago."""


class JobEnded(Exception):
    """The job has ended already."""


class Jobs:
    """Runs jobs, a few at once, those of one model one after the other; remembers how they ended.

    One process per store: a second one would take the first one's unfinished jobs for those of a dead
    process and run them too.
    """

    def __init__(
        self,
        store: ObjectStore,
        work: Work,
        *,
        parallel: int,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        metrics: Metrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        answer_within_s: float = 10,
        watch_gap_s: float = WATCH_GAP_S,
        watch_refresh_s: float = WATCH_REFRESH_S,
    ) -> None:
        """`store` is one that is patient. `clock` gives Unix time.

        `answer_within_s`: how long those who submit or cancel wait for a store that does not answer.
        """
        self._records = JobRecords(store)
        self._work = work
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics
        self._sleep = sleep
        self._answer_within_s = answer_within_s
        self._watch_gap_s = watch_gap_s
        self._watch_refresh_s = watch_refresh_s
        self._slots = asyncio.Semaphore(parallel)
        self._live: dict[str, LiveJob] = {}
        self._ended: dict[str, Job] = {}
        self._asked: dict[tuple[str, str], str] = {}
        self._doing: dict[str, asyncio.Task[None]] = {}
        self._guards: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._exclusive: set[str] = set()
        self._submitting = asyncio.Lock()
        self._entering: Job | None = None
        self._saver: asyncio.Task[None] | None = None
        self._stopping = False
        self.restored = asyncio.Event()
        """Set once the jobs of earlier processes are known; before, an unknown id may be one of theirs."""

    async def restore(self) -> None:
        """Read what an earlier process left, and carry on with what it had not ended. Raises StoreError."""
        found = [job for job in await self._records.read_all() if not self._knows(job.id)]
        unfinished = [job for job in found if not job.state.ended]
        self._ended |= {job.id: job for job in found if job.state.ended}
        for job in unfinished:
            log.info("job %s for %s is carried on with; an earlier process left it", job.id, job.repo_id)
            anew = asked_anew(job, self._clock())
            self._start(LiveJob(anew, self._records, self._clock, is_saved=True), anew.request)
        self.restored.set()
        await self._forget_old()

    def all(self) -> list[Job]:
        """Newest first."""
        jobs = [*self._ended.values(), *(live.tell() for live in self._live.values())]
        return sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)

    def get(self, job_id: str) -> Job | None:
        """None when no such job is known."""
        live = self._live.get(job_id)
        return live.tell() if live is not None else self._ended.get(job_id)

    @property
    def running(self) -> int:
        """Jobs that have not ended, waiting ones included."""
        return len(self._live)

    @property
    def watchers(self) -> int:
        """How many watch running jobs now."""
        return sum(live.watchers for live in self._live.values())

    async def submit(self, repo_id: str, request: JobRequest) -> Job:
        """Begin a job, or give the one that does the same already. Raises RepoBusy and StoreError.

        When it returns, the job is in the store and will be done even if this process dies.
        """
        try:
            async with asyncio.timeout(self._answer_within_s), self._turn_to_submit(repo_id, request) as same:
                if same is not None:
                    return same.tell()
                if repo_id in self._exclusive:
                    raise RepoBusy(_changing(repo_id))
                return await self._submit(repo_id, request)
        except TimeoutError:
            raise StoreUnavailable(
                f"the job could not be written to the store within {self._answer_within_s:.0f} s"
            ) from None

    async def cancel(self, job_id: str) -> Job:
        """End a job as CANCELLED, also one that waits for its turn. Raises NoSuchJob and JobEnded.

        What it has stored stays, for a later request. The job is told as it is when its work takes long
        to let go.
        """
        live = self._live.get(job_id)
        if live is None:
            raise self._not_live(job_id)
        if not live.cancel_asked:
            live.cancel_asked = True
            self._doing[job_id].cancel()
        await asyncio.wait([self._guards[job_id]], timeout=self._answer_within_s)
        return live.tell()

    async def watch(self, job_id: str) -> AsyncGenerator[Job, None]:
        """The job now, then its changes, about four a second at most; the ended job last.

        Raises NoSuchJob. Ends without an ended job only when the process stops.
        """
        live = self._live.get(job_id)
        if live is None:
            ended = self._ended.get(job_id)
            if ended is None:
                raise self._not_live(job_id)
            yield ended
            return
        watching = live.watch(gap_s=self._watch_gap_s, refresh_s=self._watch_refresh_s)
        try:
            async for job in watching:
                yield job
        finally:
            await watching.aclose()

    async def wait(self, job_id: str) -> Job:
        """The job once it has ended and is stored so. Raises NoSuchJob."""
        guard = self._guards.get(job_id)
        live = self._live.get(job_id)
        if guard is not None:
            await asyncio.wait([guard])
        job = live.tell() if live is not None else self._ended.get(job_id)
        if job is None:
            raise self._not_live(job_id)
        return job

    @asynccontextmanager
    async def exclusive(self, repo_id: str) -> AsyncGenerator[None, None]:
        """While this holds, no job of the model runs or starts. Raises RepoBusy when one does already."""
        busy = next((live.id for live in self._live.values() if live.repo_id == repo_id), None)
        if busy is not None:
            raise RepoBusy(f"job {busy} is at work on {repo_id}; wait until it has ended, or cancel it")
        if repo_id in self._exclusive or (self._entering and self._entering.repo_id == repo_id):
            raise RepoBusy(_changing(repo_id))
        self._exclusive.add(repo_id)
        try:
            # A job that `restore` finds meanwhile is not refused: it waits for this turn to end.
            async with self._turn(repo_id):
                yield
        finally:
            self._exclusive.discard(repo_id)
            self._drop_turn(repo_id)

    async def stop(self, grace_s: float = 5) -> None:
        """Let go of all jobs; those that have not ended stay so in the store, for the next process."""
        self._stopping = True
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, return_exceptions=True)
        for doing in self._doing.values():
            doing.cancel()
        guards = list(self._guards.values())
        if guards:
            _, late = await asyncio.wait(guards, timeout=grace_s)
            if late:
                log.error("%d job(s) could not be brought to rest; the next start does them again", len(late))
            for guard in late:
                guard.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @asynccontextmanager
    async def _turn_to_submit(
        self, repo_id: str, request: JobRequest
    ) -> AsyncGenerator[LiveJob | None, None]:
        """One submits at a time, so that of two equal requests the second finds the first one's job."""
        key = _key(repo_id, request)
        if key in self._asked:
            yield self._live[self._asked[key]]
            return
        async with self._submitting:
            yield self._live.get(self._asked.get(key, ""))

    async def _submit(self, repo_id: str, request: JobRequest) -> Job:
        now = self._clock()
        job = Job(
            id=self._new_id(),
            repo_id=repo_id,
            request=request,
            state=JobState.REQUESTED,
            created_at=now,
            updated_at=now,
        )
        live = LiveJob(job, self._records, self._clock, is_saved=False)
        self._entering = job
        try:
            await live.save()
        except BaseException:
            # The record may be in the store all the same: the next start would do what was refused here.
            self._guards[job.id] = asyncio.create_task(self._take_back(job.id))
            raise
        finally:
            self._entering = None
        self._start(live, request)
        return job

    async def _take_back(self, job_id: str) -> None:
        try:
            await self._records.forget_all([job_id])
        finally:
            self._guards.pop(job_id, None)

    def _start(self, live: LiveJob, request: JobRequest) -> None:
        self._live[live.id] = live
        self._asked.setdefault(_key(live.repo_id, request), live.id)
        self._doing[live.id] = asyncio.create_task(self._do(live))
        self._guards[live.id] = asyncio.create_task(self._see_out(live, request))
        if self._saver is None:
            self._saver = asyncio.create_task(self._save_progress())

    async def _do(self, live: LiveJob) -> None:
        # The turn first: a job that waits for its own model holds no slot meanwhile.
        async with self._turn(live.repo_id), self._slots:
            await self._work(live.tell(), live)

    async def _see_out(self, live: LiveJob, request: JobRequest) -> None:
        """Wait until a job's work has ended, for whatever reason, and keep how."""
        doing = self._doing[live.id]
        try:
            await asyncio.wait([doing])
            # Whatever else a work makes of being stopped: only success is an end then.
            if self._stopping and not live.cancel_asked and (doing.cancelled() or doing.exception()):
                log.info("job %s is unfinished; the next start of the registry carries on with it", live.id)
                return
            self._ended[live.id] = self._end(live, doing)
            self._let_go(live, request)
            await self._save_the_end(live)
            await self._forget_old()
        finally:
            live.let_go()
            self._guards.pop(live.id, None)

    def _end(self, live: LiveJob, doing: asyncio.Task[None]) -> Job:
        if doing.cancelled() and not live.cancel_asked:
            log.error("the work of job %s for %s was cancelled by itself", live.id, live.repo_id)
            return self._failed(live, Unexpected("the work was cancelled from within; ask for it again"))
        error = None if doing.cancelled() else doing.exception()
        if live.cancel_asked and (doing.cancelled() or error is not None):
            job = live.end(JobState.CANCELLED)
            log.info("job %s for %s was cancelled", job.id, job.repo_id, exc_info=error)
            self._metrics.jobs_ended.labels("cancelled").inc()
            return job
        if error is not None:
            failure = failure_of(error)
            if isinstance(failure, Unexpected):
                log.error("job %s for %s failed unexpectedly", live.id, live.repo_id, exc_info=error)
            return self._failed(live, failure)
        job = live.end(JobState.SUCCEEDED)
        log.info("job %s: %s of %s@%s succeeded", job.id, job.request.kind, job.repo_id, job.commit)
        self._metrics.jobs_ended.labels("succeeded").inc()
        return job

    def _failed(self, live: LiveJob, failure: JobFailure) -> Job:
        log.warning("job %s for %s failed: %s: %s", live.id, live.repo_id, failure.code, failure)
        self._metrics.jobs_ended.labels(failure.code).inc()
        return live.end(JobState.FAILED, failure.as_error())

    def _let_go(self, live: LiveJob, request: JobRequest) -> None:
        del self._live[live.id], self._doing[live.id]
        if self._asked.get(_key(live.repo_id, request)) == live.id:
            del self._asked[_key(live.repo_id, request)]
        self._drop_turn(live.repo_id)

    async def _save_the_end(self, live: LiveJob) -> None:
        """However long it takes: a job that the store takes for unfinished would be done once more."""
        pause_s = SAVE_EVERY_S
        while True:
            try:
                return await live.save()
            except StoreError as error:
                log.error("the end of job %s is not in the store yet: %s", live.id, error)
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _save_progress(self) -> None:
        while True:
            await self._sleep(SAVE_EVERY_S)
            for live in list(self._live.values()):
                try:
                    await live.save()
                except StoreError as error:
                    log.warning("progress of job %s could not be written to the store: %s", live.id, error)

    async def _forget_old(self) -> None:
        old = beyond_the_kept(list(self._ended.values()))
        for job_id in old:
            del self._ended[job_id]
        await self._records.forget_all(old)

    def _turn(self, repo_id: str) -> asyncio.Lock:
        return self._turns.setdefault(repo_id, asyncio.Lock())

    def _drop_turn(self, repo_id: str) -> None:
        if (
            not any(live.repo_id == repo_id for live in self._live.values())
            and repo_id not in self._exclusive
        ):
            self._turns.pop(repo_id, None)

    def _knows(self, job_id: str) -> bool:
        """Also of one whose record may be in the store though it was not accepted, or not yet."""
        entering = self._entering is not None and self._entering.id == job_id
        return entering or job_id in self._guards or self.get(job_id) is not None

    def _not_live(self, job_id: str) -> Exception:
        ended = self._ended.get(job_id)
        if ended is not None:
            return JobEnded(f"job {job_id} has ended already, as {ended.state}")
        return NoSuchJob(f"there is no job {job_id[:80]!r}")


def _changing(repo_id: str) -> str:
    return f"{repo_id} is being changed by another request; ask again when it is done"


def _key(repo_id: str, request: JobRequest) -> tuple[str, str]:
    return repo_id, request.model_dump_json()
