"""Which waiting inputs go through the model together, and whose turn it is. No tensors, no threads, no clock.

Padding is what batching costs: all rows of a forward pass are as long as its longest. So inputs of like
length go together, and a pass is bounded by its tokens with padding, not by the number of its rows.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

LOOKAHEAD_PASSES = 16
"""So many passes' worth of tokens are looked at for inputs of like length."""

LOOKAHEAD_INPUTS = 4096
"""At most so many inputs are looked at: each costs a microsecond before every pass."""


LENGTH_CLASSES = 64
"""Lengths are told apart in so many steps; the time to decide grows with the square."""


@dataclass(frozen=True)
class PassBudget:
    """What one forward pass may hold, and what it costs."""

    padded_tokens: int
    """Rows times the longest row. A longer input goes alone."""
    pass_tokens: int
    """Tokens that take as long as what every pass costs beside its tokens: its launches, Python."""

    def rows(self, length: int) -> int:
        """So many inputs of that length go together."""
        return max(1, self.padded_tokens // length)


def next_batch(lengths: Sequence[int], budget: PassBudget) -> list[int]:
    """Indices of the inputs to run now, shortest first. The first input is among them: it is its turn.

    All inputs are thought of as cut into classes by length, such that running every class, padded to its
    longest, takes the least time. The first input's class is run, as much of it as the budget allows.
    """
    shortest, longest = _class_of(lengths[0], lengths, budget)
    members = [index for index, length in enumerate(lengths) if shortest <= length <= longest]
    widest = max(lengths[index] for index in members)
    return sorted(members[: budget.rows(widest)], key=lengths.__getitem__)


def _class_of(length: int, lengths: Sequence[int], budget: PassBudget) -> tuple[int, int]:
    """Least and greatest length of the class that `length` belongs to."""
    step = 1 + max(lengths) // LENGTH_CLASSES
    counts = Counter(-(-each // step) * step for each in lengths)
    padded = sorted(counts)
    begins = _cheapest_cut(padded, [counts[each] for each in padded], budget)
    end = len(padded)
    while length <= padded[begins[end] - 1] and begins[end] > 0:
        end = begins[end]
    return (padded[begins[end] - 1] + 1 if begins[end] else 0), padded[end - 1]


def _cheapest_cut(lengths: Sequence[int], counts: Sequence[int], budget: PassBudget) -> list[int]:
    """For each number of lengths, from 0 to all: where the last class begins if only those were to be run.

    `lengths` rise. A class's cost is its passes and its tokens with padding. Dynamic programming over where
    the last class begins.
    """
    costs, begins = [0.0], [0]
    for end in range(1, len(lengths) + 1):
        length = lengths[end - 1]
        allowed = budget.rows(length)
        cheapest, at, rows = float("inf"), 0, 0
        for begin in range(end - 1, -1, -1):
            rows += counts[begin]
            passes = -(-rows // allowed)
            cost = costs[begin] + passes * budget.pass_tokens + rows * length
            if cost < cheapest:
                cheapest, at = cost, begin
        costs.append(cheapest)
        begins.append(at)
    return begins


@dataclass(eq=False)
class _Line(Generic[K]):
    """One request's inputs that still wait, shortest first: like lengths side by side."""

    key: K
    arrival: int
    lengths: Sequence[int]
    tag: float
    waiting: list[int] = field(default_factory=list)

    def in_turn(self) -> Iterator[tuple[float, int, int]]:
        """Tag, arrival and index of each, as if all before it had been served."""
        tag = self.tag
        for index in self.waiting:
            yield tag, self.arrival, index
            tag += self.lengths[index]


class FairLines(Generic[K]):
    """Inputs of many requests, each request with an equal share of the tokens.

    Fair queueing: a request's next input is due once every request that waits has had as many tokens as this
    one had before it. So a small request overtakes the rest of a large one, and the large one moves on
    however many small ones arrive. Requests that are equally due go in the order of their arrival.
    """

    def __init__(self) -> None:
        self._lines: dict[int, _Line[K]] = {}
        self._numbers: dict[K, int] = {}
        self._arrivals = 0
        self._served_each = 0.0
        self.waiting_tokens = 0
        """Of all inputs that wait, without padding."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, key: K, lengths: Sequence[int]) -> None:
        """A request arrived, with at least one input."""
        self._arrivals += 1
        waiting = sorted(range(len(lengths)), key=lengths.__getitem__)
        self._lines[self._arrivals] = _Line(key, self._arrivals, lengths, self._served_each, waiting)
        self._numbers[key] = self._arrivals
        self.waiting_tokens += sum(lengths)

    def drop(self, key: K) -> None:
        """Nobody wants the rest of this request. Also for one of which nothing waits."""
        number = self._numbers.pop(key, None)
        if number is not None:
            line = self._lines.pop(number)
            self.waiting_tokens -= sum(line.lengths[index] for index in line.waiting)

    def take(self, budget: PassBudget) -> list[tuple[K, int]]:
        """The inputs of the next pass, as request and index; they wait no longer. There must be some."""
        seen: list[tuple[_Line[K], int]] = []
        tokens = 0
        for _, number, index in heapq.merge(*(line.in_turn() for line in self._lines.values())):
            line = self._lines[number]
            seen.append((line, index))
            tokens += line.lengths[index]
            if tokens >= LOOKAHEAD_PASSES * budget.padded_tokens or len(seen) == LOOKAHEAD_INPUTS:
                break
        chosen = [seen[i] for i in next_batch([line.lengths[index] for line, index in seen], budget)]
        self._serve(chosen)
        return [(line.key, index) for line, index in chosen]

    def _serve(self, chosen: Sequence[tuple[_Line[K], int]]) -> None:
        taken: dict[int, set[int]] = {}
        for line, index in chosen:
            taken.setdefault(line.arrival, set()).add(index)
        tokens = sum(line.lengths[index] for line, index in chosen)
        self._served_each += tokens / len(self._lines)
        self.waiting_tokens -= tokens
        for number, indices in taken.items():
            self._serve_line(self._lines[number], indices)

    def _serve_line(self, line: _Line[K], indices: Collection[int]) -> None:
        line.tag += sum(line.lengths[index] for index in indices)
        line.waiting = [index for index in line.waiting if index not in indices]
        if not line.waiting:
            del self._lines[line.arrival]
            del self._numbers[line.key]
