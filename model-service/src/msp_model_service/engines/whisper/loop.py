"""The thread that writes down all recordings, and what waits for it.

Nothing waits for a batch to fill: between two passes, whatever arrived during the last one gets a row. After
each window a recording goes to the end of the line, so that a short one never waits for a long one's end.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Protocol

from msp_common.contracts.workers import WorkerLoad
from msp_common.errors import ApiError, TooManyRequests, Unavailable
from msp_model_service.engines.failures import Failures
from msp_model_service.engines.speed import Speed
from msp_model_service.engines.transcriber import Language, Segment
from msp_model_service.engines.whisper.recording import Recording
from msp_model_service.engines.whisper.writing import Row, Writing

STOP_WAIT_S = 10.0
"""How long `stop` waits for the pass that runs; a thread stuck in a driver must not hold up the exit."""

Item = Language | Segment
Emit = Callable[[Item], None]
End = Callable[[BaseException | None], None]

log = logging.getLogger(__name__)


class MakeRecording(Protocol):
    """Makes a recording that tells its news to two functions."""

    def __call__(self, emit: Emit, end: End) -> Recording: ...


class WritingLoop:
    """The thread and its line. `broken_by` are the errors after which no later pass can succeed."""

    def __init__(
        self,
        writing: Writing,
        windows_per_pass: int,
        max_queued: int,
        *,
        broken_by: tuple[type[BaseException], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writing = writing
        self._windows_per_pass = windows_per_pass
        self._max_queued = max_queued
        self._clock = clock
        self._failures = Failures("transcriber", broken_by)
        self._speed = Speed(clock)
        self._line: deque[Recording] = deque()
        self._all: set[Recording] = set()
        self._wake = threading.Condition()
        self._stopped = False
        self._working = False
        self._progress_at = 0.0
        self._thread = threading.Thread(target=self._run, name="transcriber", daemon=True)

    def start(self) -> None:
        """Begin to take recordings."""
        self._thread.start()

    def stop(self) -> None:
        """Refuse new recordings, end those at hand with Unavailable, and wait for the thread."""
        with self._wake:
            self._stopped = True
            given_up = list(self._all)
            self._line.clear()
            self._wake.notify()
        for recording in given_up:
            self._end(recording, self._stopping())
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    async def stream(self, make: MakeRecording) -> AsyncGenerator[Item, None]:
        """What is heard of a recording, as it is. Closing the generator ends the work on it.

        Raises TooManyRequests if too many wait, Unavailable when stopped.
        """
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[Item | None] = asyncio.Queue()
        outcome: Future[None] = Future()

        def emit(item: Item | None) -> None:
            # In a loop that is closed nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(made.put_nowait, item)

        def end(error: BaseException | None) -> None:
            if error is None:
                outcome.set_result(None)
            else:
                outcome.set_exception(error)
            emit(None)

        recording = make(emit, end)
        self._accept(recording)
        try:
            while (item := await made.get()) is not None:
                yield item
            outcome.result()
        finally:
            self._leave(recording)

    def load_now(self) -> WorkerLoad:
        """A recording is in flight from its first window on."""
        with self._wake:
            started = sum(recording.started for recording in self._all)
            return WorkerLoad(
                in_flight=started,
                queued=len(self._all) - started,
                tokens_per_s=self._speed.tokens_per_s(),
                last_progress_age_s=self._clock() - self._progress_at if self._working else None,
            )

    def problem(self) -> str | None:
        """Why nothing can succeed any more; null while it can."""
        return self._failures.problem()

    def _accept(self, recording: Recording) -> None:
        with self._wake:
            if self._stopped:
                raise self._stopping()
            queued = sum(not each.started for each in self._all)
            if queued + self._working > self._max_queued:
                raise TooManyRequests(
                    f"{queued} requests are waiting already, which is this worker's limit; "
                    "try again later or start another replica.",
                    retry_after_s=1,
                )
            self._all.add(recording)
            self._line.append(recording)
            self._wake.notify()

    def _leave(self, recording: Recording) -> None:
        with self._wake:
            recording.left = True
            self._all.discard(recording)
            if recording in self._line:
                self._line.remove(recording)

    def _end(self, recording: Recording, error: BaseException | None) -> None:
        """Once: whoever comes first, this thread or the one that stops it."""
        with self._wake:
            if recording not in self._all:
                return
            self._all.discard(recording)
        recording.end(error)

    def _run(self) -> None:
        while (ready := self._next()) is not None:
            for start in range(0, len(ready), self._windows_per_pass):
                self._begin(ready[start : start + self._windows_per_pass])
            self._pass()

    def _next(self) -> list[Recording] | None:
        """Those that get a row now, waited for while there is no other work; null when stopped."""
        for row in [row for row in self._writing.rows if row.recording.left]:
            self._writing.drop(row)
        with self._wake:
            self._working = bool(self._writing.rows)
            while not self._line and not self._writing.rows and not self._stopped:
                self._wake.wait()
            if self._stopped:
                return None
            ready = [self._line.popleft() for _ in range(min(self._writing.free, len(self._line)))]
            for recording in ready:
                recording.started = True
            self._working = True
            self._progress_at = self._clock()
            return ready

    def _begin(self, recordings: Sequence[Recording]) -> None:
        wanted = [recording for recording in recordings if not recording.left]
        for recording in [recording for recording in wanted if recording.over]:
            recording.tell_language()
            self._end(recording, None)
        with self._failing([recording for recording in wanted if not recording.over]) as heard:
            if heard:
                self._writing.begin(heard)
        self._progress_at = self._clock()
        self._settle()

    def _pass(self) -> None:
        rows = list(self._writing.rows)
        if not rows:
            return
        with self._failing([row.recording for row in rows]):
            self._writing.step()
            self._speed.note(len(rows))
        self._progress_at = self._clock()
        self._settle()

    def _settle(self) -> None:
        """Deal with the windows that have ended."""
        for row in [row for row in self._writing.rows if row.ended]:
            with self._failing([row.recording]):
                self._settle_row(row)

    def _settle_row(self, row: Row) -> None:
        while row.ended:
            if not self._writing.retry(row):
                break
        if not row.ended:
            return
        self._writing.hand_in(row)
        self._failures.note_success()
        self._writing.drop(row)
        recording = row.recording
        if recording.over:
            self._end(recording, None)
            return
        with self._wake:
            if not self._stopped and not recording.left:
                self._line.append(recording)

    @contextmanager
    def _failing(self, recordings: list[Recording]) -> Iterator[list[Recording]]:
        """What goes wrong within ends these recordings, and no others."""
        try:
            yield recordings
        except Exception as error:  # noqa: BLE001 - without this thread the worker would hang for ever
            if not isinstance(error, ApiError) or error.status >= 500:
                self._failures.note(error)
            for row in [row for row in self._writing.rows if row.recording in recordings]:
                self._writing.drop(row)
            for recording in recordings:
                self._end(recording, error)

    def _stopping(self) -> Unavailable:
        return Unavailable("This worker is shutting down; ask again for another one.", retry_after_s=1)
