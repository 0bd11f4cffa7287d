"""How fast an engine makes tokens."""

from collections import deque
from collections.abc import Callable

WINDOW_S = 10.0
"""Over which the speed is told."""


class Speed:
    """Tokens per second, lately. Noted by the engine's thread, read by the heartbeat."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._steps: deque[tuple[float, int]] = deque(maxlen=4096)

    def note(self, tokens: int) -> None:
        """One step made this many."""
        self._steps.append((self._clock(), tokens))

    def tokens_per_s(self) -> float | None:
        """None when nothing was made lately."""
        now = self._clock()
        recent = [(at, tokens) for at, tokens in tuple(self._steps) if at > now - WINDOW_S]
        if not recent:
            return None
        return sum(tokens for _, tokens in recent) / max(now - recent[0][0], 0.1)
