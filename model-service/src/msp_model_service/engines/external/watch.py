"""Looks after a server for as long as it serves."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from msp_model_service.engines.external.probing import ServerFigures
from msp_model_service.engines.external.server_plan import Pace

_STOP_WITHIN_S = 1.0
log = logging.getLogger(__name__)


class Asked(Protocol):
    """What a watch asks; Probe in real life."""

    def unready(self, within_s: float) -> str | None:
        """Why it is not ready; null when it is."""

    def figures(self, within_s: float) -> ServerFigures | None:
        """How busy it says it is."""


class Verdicts:
    """From single answers to a verdict: broken when no good answer came for too long."""

    def __init__(self, unhealthy_after_s: float, now: float) -> None:
        self._unhealthy_after_s = unhealthy_after_s
        self._good_at = now

    def note(self, unready: str | None, now: float) -> str | None:
        """Why it is broken, after one more answer; null while it may only be slow."""
        if unready is None:
            self._good_at = now
            return None
        since = now - self._good_at
        return (
            None
            if since < self._unhealthy_after_s
            else f"the server is not ready for {since:.0f} s: {unready}"
        )


class Watch:
    """A thread that asks until `stop`, or until it knows that the server is broken."""

    def __init__(self, asked: Asked, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._asked = asked
        self._pace = pace
        self._clock = clock
        self._stop = threading.Event()
        self._problem: str | None = None
        self._figures: ServerFigures | None = None
        self._thread = threading.Thread(target=self._watch, name="server-watch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> bool:
        """Ask no more; whether the thread has ended. A server that hangs may keep it for a while."""
        self._stop.set()
        self._thread.join(_STOP_WITHIN_S)
        return not self._thread.is_alive()

    def problem(self) -> str | None:
        """Why the server is held for broken."""
        return self._problem

    def figures(self) -> ServerFigures | None:
        """The last figures; null where the server has none."""
        return self._figures

    def _watch(self) -> None:
        verdicts = Verdicts(self._pace.unhealthy_after_s, self._clock())
        said: str | None = None
        has_figures = True
        while not self._stop.wait(self._pace.look_every_s):
            unready = self._asked.unready(self._pace.answer_within_s)
            if unready != said and unready is not None:
                log.warning("the server is not ready: %s", unready)
            said = unready
            self._problem = verdicts.note(unready, self._clock())
            if self._problem:
                return
            if has_figures and unready is None:
                self._figures = self._asked.figures(self._pace.answer_within_s)
                # Asked for once: a server without metrics would write a 404 into its log for ever.
                has_figures = self._figures is not None
