"""An event loop's clock and timers, moved by the test alone."""

from collections.abc import Callable


class FakeTimer:
    """A call that is still to come."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTimers:
    """Remembers every timer that was ever armed."""

    def __init__(self) -> None:
        self.now = 100.0
        self.armed: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> FakeTimer:
        timer = FakeTimer(when, callback)
        self.armed.append(timer)
        return timer

    @property
    def due(self) -> list[FakeTimer]:
        """Those that are still to come, the next one first."""
        return sorted((t for t in self.armed if not t.cancelled), key=lambda t: t.when)

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that becomes due in it."""
        until = self.now + seconds
        while self.due and self.due[0].when <= until:
            timer = self.due[0]
            timer.cancel()
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = until
