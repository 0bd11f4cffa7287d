"""Where a newcomer goes, and what of its prompt need not be read."""

import random

import pytest

from msp_model_service.engines.slot.prefix import Place, common_prefix, place
from msp_model_service.engines.slot.rows import Row


def row(keys: list[int], used_at: int = 0, *, busy: bool = False) -> Row:
    return Row(list(keys), used_at, busy)


def test_the_common_beginning_is_found_at_any_length() -> None:
    chance = random.Random(0)
    for _ in range(300):
        length = chance.choice([0, 1, 5, 255, 256, 257, 700])
        shared = [chance.randrange(1000) for _ in range(length)]
        one = shared + [1] * chance.randrange(3)
        other = shared + [2] * chance.randrange(3)
        expected = min(len(one), len(other)) if one[:length] == one or other[:length] == other else length
        assert common_prefix(one, other) == expected


def test_all_rows_busy_is_nowhere() -> None:
    assert place([1, 2], [row([1, 2], busy=True)]) is None


def test_strangers_take_an_empty_row_then_the_one_unused_longest() -> None:
    assert place([9, 9], [row([1], 1), row([]), row([2], 0)]) == Place(1)
    assert place([9, 9], [row([1], 5), row([3], busy=True), row([2], 4)]) == Place(2)


def test_the_next_turn_of_a_conversation_goes_on_in_its_row() -> None:
    assert place([1, 2, 3, 4, 5, 6], [row([7, 7], 9), row([1, 2, 3, 4], 1)]) == Place(1, 4)


def test_the_last_token_is_always_read() -> None:
    assert place([1, 2, 3], [row([1, 2, 3, 4])]) == Place(0, 2)
    assert place([1], [row([1])]) == Place(0)


def test_what_a_running_request_holds_is_copied() -> None:
    rows = [row([1, 2, 3, 4], 3, busy=True), row([8], 1), row([], 0)]
    assert place([1, 2, 3, 9], rows) == Place(2, 3, copy_from=0)


def test_a_long_conversation_is_not_cut_short_for_its_first_words() -> None:
    long = row([1, 2, *range(100, 120)], used_at=1)
    assert place([1, 2, 3, 4], [long, row([7], used_at=5)]) == Place(1, 2, copy_from=0)
    assert place([1, 2, 3, 4], [long]) == Place(0, 2)


@pytest.mark.parametrize("busy", [False, True])
def test_the_longest_beginning_wins(busy: bool) -> None:
    rows = [row([1, 2, 3, 4], 1, busy=busy), row([1, 2], 9), row([], 0)]
    found = place([1, 2, 3, 4, 5], rows)
    assert found is not None
    assert found.reused == 4
