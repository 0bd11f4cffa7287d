"""One thread that does an engine's tensor work, first come, first served.

Work never runs on the event loop, and never on two threads at once. What waits is bounded; who leaves is
forgotten: waiting work is dropped, running work is asked to stop.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from msp_common.contracts.workers import WorkerLoad
from msp_common.errors import ApiError, TooManyRequests, Unavailable
from msp_model_service.engines.failures import Failures

T = TypeVar("T")

STOP_WAIT_S = 10.0
"""How long `stop` waits for the step that runs; a thread stuck in a driver must not hold up the exit."""


class Abandoned(Exception):
    """Raised inside work whose caller has left; nobody sees it."""


@dataclass(eq=False)
class Job(Generic[T]):
    """One piece of work, as the work itself sees it."""

    work: "Callable[[Job[T]], T]"
    progressed: Callable[[], None]
    """To be called whenever a step is done, so that a watchdog can tell slow from stuck."""
    future: "Future[T]" = field(default_factory=Future)
    cancelled: bool = False

    def step(self) -> None:
        """Note progress. Raises Abandoned if nobody wants the result any more."""
        self.progressed()
        if self.cancelled:
            raise Abandoned


class EngineThread:
    """The thread and its queue. `broken_by` are the errors after which no later work can succeed."""

    def __init__(
        self,
        name: str,
        max_queued: int,
        *,
        broken_by: tuple[type[BaseException], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_queued = max_queued
        self._clock = clock
        self._waiting: deque[Job[Any]] = deque()
        self._running: Job[Any] | None = None
        self._wake = threading.Condition()
        self._stopped = False
        self._failures = Failures(name, broken_by)
        self._progress_at = 0.0
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def stop(self) -> None:
        """Refuse new work, end what waits and what runs with Unavailable, and wait for the thread."""
        with self._wake:
            self._stopped = True
            given_up = list(self._waiting)
            self._waiting.clear()
            if self._running is not None:
                self._running.cancelled = True
            self._wake.notify()
        for job in given_up:
            _fail(job, self._stopping())
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    def submit(self, work: Callable[[Job[T]], T]) -> Job[T]:
        """Accept work at once; its `future` ends as `run` would. Raises what `run` raises."""
        job: Job[T] = Job(work, self._note_progress)
        self._enqueue(job)
        return job

    def leave(self, job: Job[Any]) -> None:
        """Drop submitted work, or tell it through `cancelled` that nobody wants its result any more."""
        self._leave(job)

    async def run(self, work: Callable[[Job[T]], T]) -> T:
        """What `work` returns or raises. Raises TooManyRequests if too many wait, Unavailable when stopped.

        Cancelling the caller drops the work, or sets its `cancelled`.
        """
        job: Job[T] = Job(work, self._note_progress)
        self._enqueue(job)
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            self._leave(job)

    async def stream(self, work: Callable[[Job[None], Callable[[T], None]], None]) -> AsyncGenerator[T, None]:
        """What `work` hands to its second argument, as it does so. Closing the generator cancels the work."""
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[T | None] = asyncio.Queue()

        def emit(item: T | None) -> None:
            loop.call_soon_threadsafe(made.put_nowait, item)

        def ended(_: Future[None]) -> None:
            if not loop.is_closed():
                emit(None)

        job: Job[None] = Job(lambda job: work(job, emit), self._note_progress)
        job.future.add_done_callback(ended)
        self._enqueue(job)
        try:
            while (item := await made.get()) is not None:
                yield item
            await asyncio.wrap_future(job.future)
        finally:
            self._leave(job)

    def load_now(self) -> WorkerLoad:
        """One request runs at a time; the others wait."""
        with self._wake:
            busy = self._running is not None
            age = self._clock() - self._progress_at if busy else None
            return WorkerLoad(in_flight=int(busy), queued=len(self._waiting), last_progress_age_s=age)

    def problem(self) -> str | None:
        """Why no work can succeed any more; null while it can."""
        return self._failures.problem()

    def _enqueue(self, job: Job[Any]) -> None:
        with self._wake:
            if self._stopped:
                raise self._stopping()
            running = int(self._running is not None)
            if len(self._waiting) + running > self._max_queued:
                raise TooManyRequests(
                    f"{len(self._waiting)} requests are waiting already, which is this worker's limit; "
                    "try again later or start another replica.",
                    retry_after_s=1,
                )
            self._waiting.append(job)
            self._wake.notify()

    def _leave(self, job: Job[Any]) -> None:
        with self._wake:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._running = None
                while not self._waiting and not self._stopped:
                    self._wake.wait()
                if self._stopped:
                    return
                job = self._running = self._waiting.popleft()
                self._progress_at = self._clock()
            if job.future.set_running_or_notify_cancel():
                self._do(job)

    def _do(self, job: Job[Any]) -> None:
        try:
            result = job.work(job)
        except (Abandoned, ApiError) as error:
            # Neither says anything about the engine: the caller left, or asked for what cannot be.
            _fail(job, self._stopping() if self._stopped else error)
        except Exception as error:  # noqa: BLE001 - without this thread the worker would hang for ever
            self._failures.note(error)
            _fail(job, error)
        else:
            self._failures.note_success()
            job.future.set_result(result)

    def _note_progress(self) -> None:
        self._progress_at = self._clock()

    def _stopping(self) -> Unavailable:
        return Unavailable("This worker is shutting down; ask again for another one.", retry_after_s=1)


def _fail(job: Job[Any], error: BaseException) -> None:
    if not job.future.done():
        job.future.set_exception(error)
