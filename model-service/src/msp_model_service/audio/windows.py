"""How a recording is cut into the windows that a Whisper model hears, and their tokens into segments.

The model writes a timestamp before and after each stretch of speech; the two that meet between two stretches
stand together. What follows the last such pair was cut off by the window's end and is heard again.
(The rule of the model's authors: Radford et al. 2022, section 4.5.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_ADVANCE_S = 1.0
"""How far the next window begins after this one at least, so that no recording is heard for ever."""


@dataclass(frozen=True)
class Stretch:
    """Tokens of one stretch of speech, timestamps left out, and its times within the window in seconds."""

    start: float
    end: float
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Timestamps:
    """A model's timestamp tokens: all ids from `first` on, one every `step_s`."""

    first: int
    step_s: float

    def seconds(self, token: int) -> float:
        """The time that a timestamp token says."""
        return (token - self.first) * self.step_s


def stretches(
    tokens: Sequence[int], timestamps: Timestamps | None, window_s: float
) -> tuple[list[Stretch], float]:
    """The stretches that a window's tokens tell of, and after how many seconds the next window begins.

    `window_s` is how much sound the window really holds. Stretches without a word are left out.
    """
    if timestamps is None:
        return _spoken([Stretch(0.0, window_s, tuple(tokens))]), window_s
    times = [index for index, token in enumerate(tokens) if token >= timestamps.first]
    pairs = [index for index in times if index + 1 < len(tokens) and tokens[index + 1] >= timestamps.first]
    if not pairs:
        words = tuple(token for token in tokens if token < timestamps.first)
        starts = timestamps.seconds(tokens[times[0]]) if times and times[0] == 0 else 0.0
        ends = timestamps.seconds(tokens[times[-1]]) if times and times[-1] > 0 else 0.0
        return _spoken([Stretch(starts, ends if ends > starts else window_s, words)]), window_s
    ends_whole = len(times) > 1 and times[-1] == len(tokens) - 1 and times[-1] - 1 not in times
    bounds = [index + 1 for index in pairs] + ([len(tokens)] if ends_whole else [])
    found, begin = [], 0
    for bound in bounds:
        found.append(_between(tokens[begin:bound], timestamps))
        begin = bound
    if ends_whole:
        return _spoken(found), window_s
    heard_until = timestamps.seconds(tokens[pairs[-1]])
    return _spoken(found), min(max(heard_until, MIN_ADVANCE_S), window_s)


def _between(tokens: Sequence[int], timestamps: Timestamps) -> Stretch:
    """A slice that begins and ends with a timestamp; the first window may begin with none."""
    start = timestamps.seconds(tokens[0]) if tokens[0] >= timestamps.first else 0.0
    words = tuple(token for token in tokens if token < timestamps.first)
    return Stretch(start, max(start, timestamps.seconds(tokens[-1])), words)


def _spoken(found: list[Stretch]) -> list[Stretch]:
    return [stretch for stretch in found if stretch.tokens]
