"""Which inputs go through the model together, and in which order requests get their share."""

import random
import time

import pytest

from msp_model_service.engines.batch_cutting import FairLines, PassBudget, next_batch

BUDGET = PassBudget(padded_tokens=512, pass_tokens=24)


def lengths_of(lengths: list[int], chosen: list[int]) -> list[int]:
    return [lengths[index] for index in chosen]


def drained(lengths: list[int], budget: PassBudget = BUDGET) -> list[list[int]]:
    """The lengths in each pass until nothing waits."""
    lines: FairLines[str] = FairLines()
    lines.add("all", lengths)
    passes = []
    while lines:
        passes.append([lengths[index] for _, index in lines.take(budget)])
    return passes


def test_inputs_of_one_length_go_together_up_to_the_budget() -> None:
    assert next_batch([8] * 100, BUDGET) == list(range(64))


def test_an_input_longer_than_the_budget_goes_alone() -> None:
    assert next_batch([600, 600, 590], BUDGET) == [0]


def test_the_first_input_is_among_them_whatever_the_others_are() -> None:
    for first in (3, 40, 250, 700):
        assert 0 in next_batch([first, *([10] * 50), *([200] * 5)], BUDGET)


def test_inputs_of_one_pass_are_ordered_by_length() -> None:
    lengths = [12, 9, 11, 10]
    assert lengths_of(lengths, next_batch(lengths, BUDGET)) == [9, 10, 11, 12]


def test_short_inputs_are_not_padded_to_the_length_of_a_long_one() -> None:
    lengths = [8, 200, 8, 9, 200, 8]
    assert lengths_of(lengths, next_batch(lengths, BUDGET)) == [8, 8, 8, 9]
    assert lengths_of(lengths[1:], next_batch(lengths[1:], BUDGET)) == [200, 200]


def test_a_pass_of_its_own_is_not_worth_a_little_padding() -> None:
    assert len(next_batch([10, 12, 14, 16], BUDGET)) == 4
    costless = PassBudget(padded_tokens=512, pass_tokens=0)
    assert len(next_batch([10, 12, 14, 16], costless)) == 1


def test_where_passes_are_dear_and_padding_is_cheap_all_go_together() -> None:
    gpu = PassBudget(padded_tokens=16_384, pass_tokens=4096)
    assert len(next_batch([5, 50, 8, 20, 64], gpu)) == 5


@pytest.mark.parametrize("seed", range(20))
def test_all_inputs_run_once_within_the_budget_and_cheaper_than_alone_or_all_in_order(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.choice([4, 8, 16, 32, 64, 128]) + draw.randrange(8) for _ in range(100)]
    passes = drained(lengths)
    assert sorted(length for one in passes for length in one) == sorted(lengths)
    assert all(len(one) == 1 or len(one) * max(one) <= BUDGET.padded_tokens for one in passes)

    def cost(cut: list[list[int]]) -> int:
        return sum(len(one) * max(one) + BUDGET.pass_tokens for one in cut)

    alone = [[length] for length in lengths]
    by_fours = [lengths[begin : begin + 4] for begin in range(0, 100, 4)]
    assert cost(passes) < 0.9 * min(cost(alone), cost(by_fours))


def test_deciding_about_thousands_of_lengths_costs_little_more_than_about_one() -> None:
    def cpu_s(lengths: list[int]) -> float:
        begun = time.process_time()
        next_batch(lengths, PassBudget(padded_tokens=16_384, pass_tokens=4096))
        return time.process_time() - begun

    draw = random.Random(1)
    alike, spread = [8000] * 4096, [draw.randrange(3, 8000) for _ in range(4096)]
    # Some 2 to 1; without classes of length, more than 1000 to 1.
    assert min(cpu_s(spread) for _ in range(3)) < 50 * min(cpu_s(alike) for _ in range(3))


def test_requests_that_came_together_go_in_the_order_of_arrival() -> None:
    lines: FairLines[str] = FairLines()
    for name in "abcd":
        lines.add(name, [400])
    assert [lines.take(BUDGET) for _ in range(4)] == [[(name, 0)] for name in "abcd"]


def test_a_small_request_overtakes_the_rest_of_a_large_one() -> None:
    lines: FairLines[str] = FairLines()
    lines.add("large", [250] * 100)
    lines.take(BUDGET)
    lines.add("small", [20])
    taken = [lines.take(BUDGET) for _ in range(2)]
    assert ("small", 0) in taken[0] + taken[1]


def test_a_large_request_moves_on_however_many_small_ones_arrive() -> None:
    lines: FairLines[str] = FairLines()
    lines.add("large", [250] * 20)
    served = 0
    for number in range(200):
        lines.add(f"small {number}", [400])
        served += sum(key == "large" for key, _ in lines.take(BUDGET))
    assert served == 20


def test_two_large_requests_get_like_shares() -> None:
    lines: FairLines[str] = FairLines()
    lines.add("first", [250] * 40)
    lines.add("second", [120] * 80)
    tokens = {"first": 0, "second": 0}
    for _ in range(16):
        for key, _ in lines.take(BUDGET):
            tokens[key] += 250 if key == "first" else 120
    assert 0.7 < tokens["first"] / tokens["second"] < 1.4


def test_inputs_of_several_requests_share_a_pass() -> None:
    lines: FairLines[str] = FairLines()
    for name in "abc":
        lines.add(name, [10, 300])
    assert sorted(lines.take(BUDGET)) == [("a", 0), ("b", 0), ("c", 0)]


def test_dropped_requests_are_never_taken_and_their_tokens_no_longer_wait() -> None:
    lines: FairLines[str] = FairLines()
    lines.add("left", [10, 10])
    lines.add("stays", [10])
    lines.drop("left")
    lines.drop("left")
    assert lines.waiting_tokens == 10
    assert lines.take(BUDGET) == [("stays", 0)]
    assert not lines
    assert lines.waiting_tokens == 0
    lines.drop("stays")
