"""How long the phases of a worker's start take."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Phases:
    """Times the phases of a load, one after the other. Used by the loading thread alone."""

    def __init__(
        self, observe: Callable[[str, float], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._observe = observe
        self._clock = clock
        self._phase: str | None = None
        self._began = 0.0

    def enter(self, phase: str) -> None:
        """`phase` goes on, or begins and ends the one before."""
        if phase != self._phase:
            self.end()
            self._phase, self._began = phase, self._clock()

    def end(self) -> None:
        """The last phase is over."""
        if self._phase is not None:
            seconds = self._clock() - self._began
            self._observe(self._phase, seconds)
            log.info("loading: %s took %.2f s", self._phase, seconds)
        self._phase = None
