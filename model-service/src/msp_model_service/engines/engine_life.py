"""The life of an engine, from its making to its end, and again: a worker asks for it, step by step."""

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from msp_model_service.engines.lifecycle import Engine, EngineLoadFailed, OnPhase

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.05
"""How often a drained engine is asked whether it has finished."""


class EngineState(StrEnum):
    """absent → loading → ready → draining → absent; from anywhere, `unload` leads to absent."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


class EngineLife:
    """At most one loaded engine at a time. All methods may be called from any thread; `make`, `load`, `drain`
    and `unload` block.

    Each load makes a new engine, and after `unload` nothing here refers to the old one: its threads have
    ended, and its memory is free as soon as no request holds it any more.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        """`make` imports and makes an engine that holds nothing yet."""
        self._make = make
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._made: Engine | None = None
        self._engine: Engine | None = None
        self._state = EngineState.ABSENT
        self._turn = 0
        """Grows with each `load` and `unload`: a load that ends late sees that it is wanted no longer."""

    @property
    def state(self) -> EngineState:
        """Where it stands."""
        return self._state

    @property
    def engine(self) -> Engine | None:
        """The engine, while it is ready or finishes what it has begun."""
        with self._lock:
            return self._engine

    def make(self) -> Engine:
        """Make an engine for the next load, unless that is done already; imports take seconds."""
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _take(self) -> Engine:
        """What was made is for one load."""
        engine = self.make()
        with self._making:
            self._made = None
        return engine

    def load(self, folder: Path, on_phase: OnPhase) -> Engine:
        """Load the snapshot. Raises EngineLoadFailed; nothing is held then.

        Raises RuntimeError when an engine is loaded, or being loaded, already.
        """
        with self._lock:
            if self._state is not EngineState.ABSENT:
                raise RuntimeError(f"an engine is {self._state} already; unload it first")
            self._state = EngineState.LOADING
            self._turn = turn = self._turn + 1
        engine: Engine | None = None
        try:
            engine = self._take()
            engine.load(folder, on_phase)
        except BaseException:
            with self._lock:
                if turn == self._turn:
                    self._state = EngineState.ABSENT
            if engine is not None:
                engine.unload()
            raise
        with self._lock:
            wanted = turn == self._turn
            if wanted:
                self._engine, self._state = engine, EngineState.READY
        if not wanted:
            engine.unload()
            raise EngineLoadFailed("the engine was unloaded before it was ready")
        return engine

    def drain(self, within_s: float) -> bool:
        """Wait until all that was accepted has ended; whether it has. Hand in no new work meanwhile."""
        with self._lock:
            engine = self._engine
            if engine is None:
                return True
            self._state = EngineState.DRAINING
        waits = threading.Event()
        until = time.monotonic() + within_s
        while (load := engine.load_now()).in_flight or load.queued:
            if time.monotonic() >= until:
                log.warning("%d requests run on and %d wait after draining", load.in_flight, load.queued)
                return False
            waits.wait(LOOK_EVERY_S)
        return True

    def unload(self) -> None:
        """End what runs, and free everything. An engine that is being loaded is unloaded once it is."""
        with self._lock:
            engine, self._engine = self._engine, None
            self._state = EngineState.ABSENT
            self._turn += 1
        if engine is not None:
            engine.unload()
