"""One thread that puts the inputs of all waiting requests through the model together.

Nothing waits for a batch to fill: a pass takes whatever queued while the last one ran, so that a lone request
starts at once and batches grow with the load by themselves.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msp_common.contracts.workers import WorkerLoad
from msp_common.errors import InternalError, TooManyRequests, Unavailable
from msp_model_service.engines.batch_cutting import FairLines, PassBudget
from msp_model_service.engines.embedder import TokenIds
from msp_model_service.engines.failures import Failures
from msp_model_service.engines.speed import Speed

Vectors = NDArray[np.float32]
Forward = Callable[[Sequence[TokenIds]], Vectors]
"""One vector per input, in order. Runs on the batcher's thread."""

MAX_WAITING_TOKENS = 1_200_000
"""Of all waiting requests: four of the largest. Their ids take some 36 bytes of memory each."""

STOP_WAIT_S = 10.0
"""How long `stop` waits for the pass that runs; a thread stuck in a driver must not hold up the exit."""


@dataclass(eq=False)
class _Request:
    inputs: Sequence[TokenIds]
    answer: "asyncio.Future[Vectors]"
    left: int
    """Inputs without a vector."""
    vectors: Vectors | None = None
    started: bool = False
    over: bool = False
    """Answered, failed, or its caller left: its inputs need no pass any more."""


@dataclass
class _Outcome:
    """What came of one batch."""

    ended: list[tuple[_Request, "Vectors | Exception"]] = field(default_factory=list)
    """Requests that are over now, with what they get."""
    vectors: int = 0
    fault: Exception | None = None
    """The last."""


class MicroBatcher:
    """The thread and what waits for it. `broken_by` are errors after which no later pass can succeed."""

    def __init__(
        self,
        name: str,
        forward: Forward,
        budget: PassBudget,
        max_queued: int,
        *,
        broken_by: tuple[type[BaseException], ...] = (),
        max_waiting_tokens: int = MAX_WAITING_TOKENS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forward = forward
        self._budget = budget
        self._max_queued = max_queued
        self._max_waiting_tokens = max_waiting_tokens
        self._clock = clock
        self._failures = Failures(name, broken_by)
        self._speed = Speed(clock)
        self._lines: FairLines[_Request] = FairLines()
        self._requests: set[_Request] = set()
        self._running = False
        self._stopped = False
        self._progress_at = 0.0
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def stop(self) -> None:
        """Refuse new requests, end those at hand with Unavailable, and wait for the thread."""
        with self._wake:
            self._stopped = True
            given_up = list(self._requests)
            for request in given_up:
                self._end(request)
            self._wake.notify()
        _settle([(request, self._stopping()) for request in given_up])
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    async def embed(self, inputs: Sequence[TokenIds]) -> Vectors:
        """One row per input. Raises TooManyRequests if too much waits, Unavailable when stopped.

        Cancelling the caller drops what still waits of it.
        """
        if not inputs:
            raise ValueError("there is nothing to embed")
        request = _Request(inputs, asyncio.get_running_loop().create_future(), left=len(inputs))
        self._accept(request)
        try:
            return await request.answer
        finally:
            with self._wake:
                self._end(request)

    def load_now(self) -> WorkerLoad:
        """A request is in flight from its first pass on."""
        with self._wake:
            started = sum(request.started for request in self._requests)
            return WorkerLoad(
                in_flight=started,
                queued=len(self._requests) - started,
                tokens_per_s=self._speed.tokens_per_s(),
                last_progress_age_s=self._clock() - self._progress_at if self._running else None,
            )

    def problem(self) -> str | None:
        """Why no pass can succeed any more; null while it can."""
        return self._failures.problem()

    def _accept(self, request: _Request) -> None:
        lengths = [len(ids) for ids in request.inputs]
        with self._wake:
            if self._stopped:
                raise self._stopping()
            queued = sum(not each.started for each in self._requests)
            if queued + self._running > self._max_queued:
                raise TooManyRequests(
                    f"{queued} requests are waiting already, which is this worker's limit; try again later "
                    "or start another replica.",
                    retry_after_s=1,
                )
            waiting = self._lines.waiting_tokens
            if waiting and waiting + sum(lengths) > self._max_waiting_tokens:
                raise TooManyRequests(
                    f"{waiting} tokens are waiting already, and {self._max_waiting_tokens} may. "
                    "Try again later or start another replica.",
                    retry_after_s=5,
                )
            self._requests.add(request)
            self._lines.add(request, lengths)
            self._wake.notify()

    def _end(self, request: _Request) -> None:
        """To be called with the lock held."""
        request.over = True
        self._requests.discard(request)
        self._lines.drop(request)

    def _loop(self) -> None:
        while batch := self._take():
            _settle(self._run(batch).ended)

    def _take(self) -> list[tuple[_Request, int]]:
        """The next pass's inputs, waited for; none when stopped."""
        with self._wake:
            self._running = False
            while not self._lines and not self._stopped:
                self._wake.wait()
            if self._stopped:
                return []
            batch = self._lines.take(self._budget)
            for request, _ in batch:
                request.started = True
            self._running = True
            self._progress_at = self._clock()
            return batch

    def _run(self, batch: "Sequence[tuple[_Request, int]]") -> "_Outcome":
        outcome = _Outcome()
        self._attempt(batch, outcome)
        if outcome.vectors:
            self._failures.note_success()
        elif outcome.fault is not None:
            self._failures.note(outcome.fault)
        return outcome

    def _attempt(self, batch: Sequence[tuple[_Request, int]], outcome: "_Outcome") -> None:
        """Run the batch; where it fails, run its halves, until the inputs at fault stand alone."""
        batch = [(request, index) for request, index in batch if not request.over]
        if not batch:
            return
        try:
            rows = self._forward([request.inputs[index] for request, index in batch])
        except Exception as error:  # noqa: BLE001 - without this thread the worker would hang for ever
            self._progress_at = self._clock()
            if len(batch) == 1 or self._failures.fatal(error):
                for request, _ in batch:
                    self._fail(request, error, outcome)
                return
            middle = len(batch) // 2
            self._attempt(batch[:middle], outcome)
            self._attempt(batch[middle:], outcome)
            return
        self._progress_at = self._clock()
        self._speed.note(sum(len(request.inputs[index]) for request, index in batch))
        self._hand_out(batch, rows, outcome)

    def _hand_out(self, batch: Sequence[tuple[_Request, int]], rows: Vectors, outcome: "_Outcome") -> None:
        for (request, index), row in zip(batch, rows, strict=True):
            if request.over:
                continue
            if not np.isfinite(row).all():
                self._fail(
                    request, InternalError(f"The model made no finite vector of input {index}."), outcome
                )
                continue
            outcome.vectors += 1
            if request.vectors is None:
                request.vectors = np.empty((len(request.inputs), len(row)), dtype=np.float32)
            request.vectors[index] = row
            request.left -= 1
            if request.left == 0:
                with self._wake:
                    self._end(request)
                outcome.ended.append((request, request.vectors))

    def _fail(self, request: _Request, error: Exception, outcome: "_Outcome") -> None:
        outcome.fault = error
        with self._wake:
            if request.over:
                return
            self._end(request)
        outcome.ended.append((request, error))

    def _stopping(self) -> Unavailable:
        return Unavailable("This worker is shutting down; ask again for another one.", retry_after_s=1)


def _settle(ended: Sequence[tuple[_Request, Any]]) -> None:
    """Wake the callers: once per event loop, since each wake-up is a system call."""
    loops = {request.answer.get_loop() for request, _ in ended}
    for loop in loops:
        outcomes = [
            (request.answer, result) for request, result in ended if request.answer.get_loop() is loop
        ]
        if not loop.is_closed():
            loop.call_soon_threadsafe(_answer, outcomes)


def _answer(outcomes: "Sequence[tuple[asyncio.Future[Vectors], Any]]") -> None:
    for answer, result in outcomes:
        if answer.done():
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)
