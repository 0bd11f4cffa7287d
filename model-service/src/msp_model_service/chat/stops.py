"""Ending an answer at a stop sequence without ever showing a part of it."""

from collections.abc import Sequence
from typing import Protocol


def held_back(text: str, sequences: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `sequences`."""
    longest = max((len(sequence) for sequence in sequences), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(sequence.startswith(text[-length:]) for sequence in sequences if len(sequence) > length):
            return length
    return 0


class Stops(Protocol):
    """Passes an answer's text on, up to where it is to stop."""

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence is complete."""

    def feed(self, text: str) -> str:
        """What of the text so far may be shown now."""

    def finish(self) -> str:
        """What was held back, now that nothing follows."""


class StopWatcher:
    """Passes text on until one of `sequences` is complete; `stopped` then stays true."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(sequences)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What of the text so far may be shown now."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for sequence in self._sequences if (at := text.find(sequence)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        length = held_back(text, self._sequences)
        self._held = text[len(text) - length :]
        return text[: len(text) - length]

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        rest, self._held = self._held, ""
        return rest


class StopsBehindThinking:
    """Stop sequences that hold for what a model says, not for what it thinks before."""

    def __init__(self, sequences: Sequence[str], *, start: str, end: str, begun: bool) -> None:
        """`start` and `end` mark the thinking; `begun`: the text begins within it."""
        self._watcher = StopWatcher(sequences)
        self._start, self._end = start, end
        self._thinking: bool | None = True if begun else None
        """None until the beginning has told whether there is thinking."""
        self._held = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence is complete."""
        return self._watcher.stopped

    def feed(self, text: str) -> str:
        """See Stops."""
        if self._thinking is False:
            return self._watcher.feed(text)
        self._held += text
        if self._thinking is None:
            begun = self._held.lstrip()
            if not begun.startswith(self._start) and self._start.startswith(begun):
                return ""
            self._thinking = begun.startswith(self._start)
            if not self._thinking:
                return self._watcher.feed(self._taken(len(self._held)))
        at = self._held.find(self._end)
        if at < 0:
            return self._taken(len(self._held) - held_back(self._held, (self._end,)))
        self._thinking = False
        thought = self._taken(at + len(self._end))
        return thought + self._watcher.feed(self._taken(len(self._held)))

    def finish(self) -> str:
        """See Stops."""
        return self._taken(len(self._held)) + self._watcher.finish()

    def _taken(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        return taken
