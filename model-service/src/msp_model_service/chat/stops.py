"""Ending an answer at a stop sequence without ever showing a part of it."""

from collections.abc import Sequence


def held_back(text: str, sequences: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `sequences`."""
    longest = max((len(sequence) for sequence in sequences), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(sequence.startswith(text[-length:]) for sequence in sequences if len(sequence) > length):
            return length
    return 0


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
