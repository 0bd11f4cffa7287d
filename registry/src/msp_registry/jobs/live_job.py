"""One job that has not ended: the Progress of its work, its record in the store, and who watches it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

from msp_common.contracts.jobs import BadFile, Job, JobError, JobState
from msp_registry.jobs.job_progress import JobProgress
from msp_registry.jobs.job_records import JobRecords


class LiveJob:
    """A Progress. Counting is cheap and touches no store; `enter` and `save` write."""

    def __init__(self, job: Job, records: JobRecords, clock: Callable[[], float], *, is_saved: bool) -> None:
        """`is_saved`: the store has a record of it that will do for now."""
        self.id = job.id
        self.repo_id = job.repo_id
        self.cancel_asked = False
        self.over = asyncio.Event()
        """Set when nothing more will be told: it has ended, or this process lets go of it."""
        self._job = job
        self._records = records
        self._clock = clock
        self._progress = JobProgress(clock())
        self._updated_at = job.updated_at
        self._version = 1
        self._saved_version = 1 if is_saved else 0
        self._saving = asyncio.Lock()
        self._watchers: set[asyncio.Event] = set()

    @property
    def watchers(self) -> int:
        """How many watch it now."""
        return len(self._watchers)

    def tell(self) -> Job:
        """The job as it is now."""
        if self._job.state.ended:
            return self._job
        job = self._job.model_copy(update={"updated_at": self._updated_at})
        return self._progress.told_in(job, self._clock())

    async def enter(self, state: JobState, *, commit: str | None = None) -> None:
        """Told at once to those who watch; returns when it is in the store."""
        if self.over.is_set():
            return
        self._job = self._job.model_copy(update={"state": state, "commit": commit or self._job.commit})
        self._progress.next_stage(self._clock())
        self._changed()
        await self.save()

    def expect(self, files: Sequence[tuple[str, int]]) -> None:
        """As Progress."""
        self._progress.expect(files, self._clock())
        self._changed()

    def moved(self, path: str, n_bytes: int) -> None:
        """As Progress."""
        self._progress.moved(path, n_bytes, self._clock())
        self._changed()

    def resumed(self, path: str, n_bytes: int) -> None:
        """As Progress."""
        self._progress.resumed(path, n_bytes)
        self._changed()

    def file_done(self, path: str) -> None:
        """As Progress."""
        self._progress.file_done(path)
        self._changed()

    def found_bad(self, bad: BadFile) -> None:
        """As Progress."""
        self._progress.found_bad(bad)
        self._changed()

    def end(self, state: JobState, error: JobError | None = None) -> Job:
        """The job as it will stay. What its work may still tell is not heard any more."""
        self._changed()
        ended = {"state": state, "error": error, "updated_at": self._updated_at}
        self._job = self._progress.told_in(self._job.model_copy(update=ended), self._updated_at)
        self.let_go()
        return self._job

    def let_go(self) -> None:
        """Tell those who watch that there is nothing more to come."""
        self.over.set()
        for wake in self._watchers:
            wake.set()

    async def save(self) -> None:
        """Write what the store does not have yet. Raises StoreError.

        One write at a time: an older one that waits for the store must not come after the last.
        """
        async with self._saving:
            version = self._version
            if version > self._saved_version:
                await self._records.write(self.tell())
                self._saved_version = version

    async def watch(self, *, gap_s: float, refresh_s: float) -> AsyncGenerator[Job, None]:
        """The job now, then each change, `gap_s` apart at least; the ended job last, without delay.

        Every `refresh_s` it is looked at anew: the rate of a stalled job changes without any news of it.
        """
        wake = asyncio.Event()
        self._watchers.add(wake)
        told: Job | None = None
        try:
            while True:
                wake.clear()
                is_last, job = self.over.is_set(), self.tell()
                if job != told:
                    yield job
                    told = job
                if is_last:
                    return
                await _wait_for(wake, refresh_s)
                await _wait_for(self.over, gap_s)
        finally:
            self._watchers.discard(wake)

    def _changed(self) -> None:
        if self.over.is_set():
            return
        self._updated_at = self._clock()
        self._version += 1
        for wake in self._watchers:
            wake.set()


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
