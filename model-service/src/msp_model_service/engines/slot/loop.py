"""The engine's one thread: takes requests in, runs steps while there is work, tells when it is broken."""

import logging
import threading
import time
from collections.abc import Callable

import torch

from msp_common.contracts.workers import WorkerLoad
from msp_common.errors import ApiError, InternalError, TooManyRequests, Unavailable
from msp_model_service.engines.engine_thread import STOP_WAIT_S
from msp_model_service.engines.lifecycle import QUEUE_DEADLINE_S
from msp_model_service.engines.slot.batch import Batch
from msp_model_service.engines.slot.delivery import Outbox
from msp_model_service.engines.slot.sequence import Sequence

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
"""After so many without a success between them, the engine is examined."""


class SlotLoop:
    """Owns the thread. Its methods are for other threads, but for those that begin with an underscore.

    `probe` is a forward pass that a sound engine can always do: it tells hostile requests from a broken one.
    """

    def __init__(
        self,
        batch: Batch,
        outbox: Outbox,
        *,
        max_rows: int,
        max_queued: int,
        probe: Callable[[], None],
        deadline_s: float = QUEUE_DEADLINE_S,
        broken_by: tuple[type[BaseException], ...] = (),
        note_tokens: Callable[[int], None] = lambda tokens: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batch = batch
        self._outbox = outbox
        self._max_rows, self._max_queued = max_rows, max_queued
        self._probe = probe
        self._deadline_s = deadline_s
        self._broken_by = broken_by
        self._note_tokens = note_tokens
        self._clock = clock
        self._wake = threading.Condition()
        self._arrived: list[Sequence] = []
        self._open: set[Sequence] = set()
        """Accepted, and neither ended nor left."""
        self._stopped = False
        self._problem: str | None = None
        self._progress_at = clock()
        self._thread = threading.Thread(target=self._run, name="slot", daemon=True)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def stop(self) -> None:
        """Refuse new work, end what waits and what runs with Unavailable, and wait for the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    def submit(self, sequence: Sequence) -> None:
        """Accept a request. Raises TooManyRequests if too many wait, Unavailable when stopped or broken."""
        with self._wake:
            if self._stopped or self._problem:
                raise self._refusal()
            if len(self._open) >= self._max_rows + self._max_queued:
                waiting = len(self._open) - self._max_rows
                raise TooManyRequests(
                    f"{self._max_rows} requests are being answered and {waiting} wait already, which is this "
                    "worker's limit; try again later or start another replica.",
                    retry_after_s=1,
                )
            self._open.add(sequence)
            self._arrived.append(sequence)
            self._wake.notify()

    def leave(self, sequence: Sequence) -> None:
        """Nobody reads its answer any more: it is dropped before the next step."""
        with self._wake:
            sequence.cancelled = True
            self._open.discard(sequence)
            self._wake.notify()

    def ended(self, sequence: Sequence) -> None:
        """It has had its last event."""
        with self._wake:
            self._open.discard(sequence)

    def load_now(self) -> WorkerLoad:
        """How busy the engine is."""
        with self._wake:
            accepted = len(self._open)
        in_flight = min(accepted, sum(not one.cancelled for one in self._batch.running))
        age = self._clock() - self._progress_at if accepted else None
        return WorkerLoad(
            in_flight=in_flight,
            queued=accepted - in_flight,
            slots=self._max_rows,
            last_progress_age_s=age,
        )

    def problem(self) -> str | None:
        """Why no work can succeed any more; null while it can."""
        return self._problem

    def _run(self) -> None:
        # The limit on threads belongs to the thread that set it, as far as OpenMP is concerned.
        torch.set_num_threads(torch.get_num_threads())
        with torch.inference_mode():
            while self._take_in():
                self._expire()
                self._step()
                self._progress_at = self._clock()
                self._outbox.flush()
                if self._problem:
                    break
        # A refusal names the problem where there is one; what arrives from now on is refused by `submit`.
        with self._wake:
            self._batch.waiting.extend(self._arrived)
            self._arrived.clear()
        self._batch.end_all(self._refusal())
        self._outbox.flush()

    def _take_in(self) -> bool:
        """Wait for work; False when the thread is to end."""
        with self._wake:
            if self._batch.idle and not self._arrived:
                while not self._arrived and not self._stopped:
                    self._wake.wait()
                self._progress_at = self._clock()
            arrived = [one for one in self._arrived if not one.cancelled]
            self._arrived.clear()
            stopped = self._stopped
        # Without the lock: what was begun elsewhere may be long, and end at once.
        self._batch.waiting.extend(one for one in arrived if one.take_over())
        return not stopped

    def _expire(self) -> None:
        """Those who waited too long have not begun, so another worker may still answer them."""
        oldest = self._clock() - self._deadline_s
        late = [one for one in self._batch.waiting if one.accepted_at < oldest and not one.preempted]
        for sequence in late:
            self._batch.waiting.remove(sequence)
            sequence.reader.fail(
                Unavailable(
                    f"The request waited {self._deadline_s:.0f} s for its turn, which is this worker's "
                    "limit; try again later or start another replica.",
                    retry_after_s=5,
                )
            )

    def _step(self) -> None:
        tally = self._batch.tally
        before = tally.made
        try:
            self._batch.step()
        except self._broken_by as error:
            log.exception("the device failed")
            self._problem = f"the device failed and needs a new process: {error}"
            return
        except Exception:  # without this thread the worker would hang for ever
            log.exception("a step failed as a whole")
            self._batch.end_all(InternalError("The engine failed in the middle; the log has the cause."))
            tally.failed()
        if tally.made > before:
            self._note_tokens(tally.made - before)
        if tally.failures_in_a_row >= FAILURES_IN_A_ROW:
            self._examine(tally.failures_in_a_row)

    def _examine(self, failures: int) -> None:
        """Nothing but failures lately: is it the requests, or the engine?"""
        try:
            self._probe()
        except Exception as error:  # noqa: BLE001 - any failure is the answer
            self._problem = f"{failures} requests in a row failed, and so does a forward pass: {error!r}"
            log.error("the engine is broken: %s", self._problem)
        else:
            self._batch.tally.worked()

    def _refusal(self) -> ApiError:
        if self._problem:
            return Unavailable(f"The engine is broken: {self._problem}.", should_retry=False)
        return Unavailable("This worker is shutting down; ask again for another one.", retry_after_s=1)
