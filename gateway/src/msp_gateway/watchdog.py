"""Watches over an exchange with a worker: breaks it off when the worker stands still."""

import asyncio
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Protocol, Self

from msp_gateway import stalls
from msp_gateway.failures import Happened
from msp_gateway.gaps import Gaps
from msp_gateway.stalls import Limits, Progress

MAX_WORKERS = 1000
"""Gaps are kept for so many workers; ids of containers come and go."""


LONGEST_TICK_S = 1.0
"""So much later than its limit a silence may be noticed."""


class Stood(Exception):
    """The worker said nothing for too long; `what` is the row of the failure table."""

    def __init__(self, what: Happened, silent_s: float) -> None:
        super().__init__(f"no byte for {silent_s:.0f} s")
        self.what = what


class Timers(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> object:
        """Call it once at that time."""


class Watchdog:
    """Hands out watches, and looks after all of them once a tick: a watch of its own has no timer.

    `progress` tells of a worker id how its engine gets on; it is asked only about workers that are silent.
    """

    def __init__(
        self,
        limits: Limits,
        progress: Callable[[str], Progress],
        timers: Callable[[], Timers] = asyncio.get_running_loop,
    ) -> None:
        self._limits = limits
        self._progress = progress
        self._timers = timers
        self._tick_s = min(LONGEST_TICK_S, limits.look_after_s / 4, limits.give_up_after_s / 4)
        self._soonest_s = stalls.look_after_s(0.0, limits)
        self._gaps: dict[str, Gaps] = {}
        self._watches: set[Watch] = set()
        self._ticking = False

    def over_beginning(self, worker_id: str) -> "WatchedBlock":
        """A watch until the answer's first byte."""
        return WatchedBlock(self, worker_id, False, None)

    def over_rest(self, worker_id: str, *, streams: bool) -> "WatchedBlock":
        """A watch from the answer's first byte on; gaps are learnt from event streams alone."""
        gaps = self.gaps_of(worker_id) if streams else None
        return WatchedBlock(self, worker_id, True, gaps)

    def over_exchange(self, worker_id: str, give_up: Callable[[Stood], None]) -> "Watch":
        """A watch over all of it, for who waits in no block: `give_up` is called where the worker stood."""
        watch = Watch(self, worker_id, False, None, give_up)
        watch.begin()
        return watch

    @cached_property
    def timers(self) -> Timers:
        """Those of the event loop in which it is first used."""
        return self._timers()

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one in which it is first used. To ask for it costs more than the rest of a watch."""
        return asyncio.get_running_loop()

    def begin(self, watch: "Watch") -> None:
        """Look after this one too."""
        self._watches.add(watch)
        if not self._ticking:
            self._ticking = True
            self.timers.call_at(self.timers.time() + self._tick_s, self._look)

    def end(self, watch: "Watch") -> None:
        """Look after it no longer."""
        self._watches.discard(watch)

    def _look(self) -> None:
        now = self.timers.time()
        told: dict[str, Progress] = {}
        for watch in self._watches:
            if watch.gaps is not None:
                watch.gaps.count()
            silent_s = watch.silent_s(now)
            if silent_s < self._soonest_s:
                continue
            look_after_s = stalls.look_after_s(watch.gaps.p99_s() if watch.gaps else None, self._limits)
            if silent_s < look_after_s:
                continue
            if watch.worker_id not in told:
                told[watch.worker_id] = self._progress(watch.worker_id)
            what = stalls.judge(
                silent_s, look_after_s, self._limits, told[watch.worker_id], begun=watch.begun
            )
            if what is not None:
                watch.break_off(Stood(what, silent_s))
        self._ticking = bool(self._watches)
        if self._ticking:
            self.timers.call_at(now + self._tick_s, self._look)

    def gaps_of(self, worker_id: str) -> Gaps:
        """What is known of the gaps in this worker's streams."""
        if worker_id not in self._gaps and len(self._gaps) >= MAX_WORKERS:
            self._gaps.clear()
        return self._gaps.setdefault(worker_id, Gaps())


class Watch:
    """Of one exchange, or a phase of it; from `begin` until `end`.

    While the client is waited for (between `arrived` or `rests` and `waits`) no silence is counted.
    """

    __slots__ = ("_dog", "_give_up", "_since", "_stood", "_time", "begun", "gaps", "worker_id")

    def __init__(
        self,
        dog: Watchdog,
        worker_id: str,
        begun: bool,
        gaps: Gaps | None,
        give_up: Callable[[Stood], None] | None = None,
    ) -> None:
        """`give_up` is called once at most, at a turn of the loop of its own."""
        self._dog = dog
        self._time = dog.timers.time
        self._give_up = give_up
        self.worker_id = worker_id
        self.begun = begun
        self.gaps = gaps
        self._since: float | None = None
        self._stood: Stood | None = None

    def begin(self) -> None:
        """The worker is waited for."""
        self._since = self._time()
        self._dog.begin(self)

    def end(self) -> None:
        """Nobody waits any more."""
        self._give_up = None
        self._dog.end(self)

    def answered(self, streams: bool) -> None:
        """The first byte is there; gaps are learnt from event streams alone."""
        self.begun = True
        self._since = None
        if streams:
            self.gaps = self._dog.gaps_of(self.worker_id)

    def arrived(self) -> None:
        """A chunk is there; from now on the client is waited for."""
        self.heard()
        self._since = None

    def waits(self) -> None:
        """The worker is waited for again."""
        self._since = self._time()

    def heard(self) -> None:
        """A chunk is there, and the worker is waited for again at once."""
        now = self._time()
        if self.gaps is not None and self._since is not None:
            self.gaps.note(now - self._since)
        self._since = now

    def rests(self) -> None:
        """From now on the client is waited for."""
        self._since = None

    def silent_s(self, now: float) -> float:
        """How long the worker has been waited for in vain."""
        return 0.0 if self._since is None else now - self._since

    def break_off(self, stood: Stood) -> None:
        """Give the worker up at the loop's next turn, if the watch has not ended by then."""
        if self._stood is None:
            self._stood = stood
            self._dog.loop.call_soon(self._break_off, stood)

    def _break_off(self, stood: Stood) -> None:
        if self._give_up is not None:
            self._give_up(stood)


class WatchedBlock(Watch):
    """A `with` block that raises Stood."""

    __slots__ = ("_cancelled", "_task")

    def __enter__(self) -> Self:
        """Begin to wait for the worker."""
        self._task = asyncio.current_task(self._dog.loop)
        self._cancelled = False
        self._give_up = self._cancel
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the watch."""
        self.end()
        task, self._task = self._task, None
        # Somebody else may have cancelled the task too, who goes first then.
        alone = self._cancelled and task is not None and task.uncancel() == 0
        if alone and kind is asyncio.CancelledError and self._stood is not None:
            raise self._stood from None

    def _cancel(self, stood: Stood) -> None:
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()
