"""How a window's tokens become stretches of speech, and where the next window begins."""

import pytest

from msp_model_service.audio.windows import MIN_ADVANCE_S, Stretch, Timestamps, stretches

TIMES = Timestamps(first=1000, step_s=0.02)
WINDOW_S = 30.0


def at(seconds: float) -> int:
    return 1000 + round(seconds / 0.02)


@pytest.mark.parametrize(
    ("tokens", "found", "advance_s"),
    [
        ([], [], WINDOW_S),
        ([1, 2], [Stretch(0, WINDOW_S, (1, 2))], WINDOW_S),
        ([at(0), 1, at(4)], [Stretch(0, 4, (1,))], WINDOW_S),
        ([at(2), 1], [Stretch(2, WINDOW_S, (1,))], WINDOW_S),
        (
            [at(0), 1, at(4), at(5), 2, at(9)],
            [Stretch(0, 4, (1,)), Stretch(5, 9, (2,))],
            WINDOW_S,
        ),
        # The last stretch was cut off by the window's end: it is heard again.
        ([at(0), 1, at(4), at(4), 2, 3], [Stretch(0, 4, (1,))], 4.0),
        # More speech follows: the pair says where.
        ([at(0), 1, at(28), at(28)], [Stretch(0, 28, (1,))], 28.0),
        ([at(1), at(3), at(3)], [], 3.0),
    ],
    ids=["nothing", "no-times", "one", "no-end", "two", "cut-off", "more-follows", "no-words"],
)
def test_tokens_become_stretches(tokens: list[int], found: list[Stretch], advance_s: float) -> None:
    result, advance = stretches(tokens, TIMES, WINDOW_S)
    assert [s.tokens for s in result] == [s.tokens for s in found]
    assert [s.start for s in result] == pytest.approx([s.start for s in found])
    assert [s.end for s in result] == pytest.approx([s.end for s in found])
    assert advance == pytest.approx(advance_s)


def test_a_model_without_timestamps_gives_one_stretch_for_each_window() -> None:
    assert stretches([1, 1000, 2], None, 12.5) == ([Stretch(0, 12.5, (1, 1000, 2))], 12.5)


def test_every_window_goes_forward() -> None:
    _, advance = stretches([at(0), 1, at(0), at(0), 2], TIMES, WINDOW_S)
    assert advance == MIN_ADVANCE_S


def test_no_window_goes_beyond_the_sound() -> None:
    _, advance = stretches([at(0), 1, at(9), at(9), 2], TIMES, 0.4)
    assert advance == pytest.approx(0.4)
