"""What a step of the engine does next. Pure: no tensors, no clock, no queue.

A step is a row of actions that ends with Decode or Rest. Prompts are read (prefilled) in pieces within a
budget of tokens, so that those who already get their answer never wait longer than that takes; then all of
them get one token. Short prompts are read together: a processor multiplies a few rows no faster than many.
What is in memory never exceeds the budget of positions: if the answers outgrow it, the youngest request gives
its row up and is read again later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GRAIN = 128
"""Rows' capacities are multiples of it."""

HEADROOM = 64
"""Positions that must be free beyond a newcomer's prompt, lest it be preempted right away."""


@dataclass(frozen=True)
class Limits:
    """What a step may use."""

    max_rows: int
    prefill_tokens: int
    """Prompt tokens read per step."""
    kv_tokens: int
    """Positions that the cache may have: rows times capacity."""


@dataclass(frozen=True)
class Running:
    """A request that has a row. `key` grows with arrival."""

    key: int
    length: int
    """Positions it fills once everything known of it has been read."""
    left: int = 0
    """Prompt tokens that must be read before it can get its next token; 0: it decodes."""


@dataclass(frozen=True)
class State:
    """Where the batch stands. `waiting` is the length of the first request in the queue, if there is one."""

    running: tuple[Running, ...] = ()
    waiting: int | None = None
    awaits_reading: bool = False
    """Whether the one in the queue begins with what is being read just now, and need not read it again."""


@dataclass(frozen=True)
class Preempt:
    """Take its row from the request `key` and put it back at the queue's head."""

    key: int


@dataclass(frozen=True)
class Prefill:
    """Read further tokens of these requests together: (key, how many)."""

    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Admit:
    """Give the first request in the queue a row."""


@dataclass(frozen=True)
class Decode:
    """One token for each of these; the step ends."""

    keys: tuple[int, ...]


@dataclass(frozen=True)
class Rest:
    """Nothing (more) to do in this step."""


Action = Preempt | Prefill | Admit | Decode | Rest


def next_action(state: State, limits: Limits, budget: int) -> Action:
    """`budget` is what remains of `limits.prefill_tokens` in this step."""
    running = state.running
    if len(running) > 1 and not fits(len(running), _longest(running) + 1, limits):
        return Preempt(max(one.key for one in running))
    if budget > 0:
        filling = [one for one in running if one.left]
        unfilled = sum(one.left for one in filling) < budget and not (filling and state.awaits_reading)
        if unfilled and state.waiting is not None and _has_room(state.waiting, running, limits):
            return Admit()
        if filling:
            return Prefill(_pieces(filling, budget))
    decoding = tuple(one.key for one in running if not one.left)
    return Decode(decoding) if decoding else Rest()


def _pieces(filling: Sequence[Running], budget: int) -> tuple[tuple[int, int], ...]:
    """Whole prompts, first come, first served, and what fits of the last one."""
    made: list[tuple[int, int]] = []
    for one in sorted(filling, key=lambda one: one.key):
        if budget > 0:
            made.append((one.key, min(one.left, budget)))
            budget -= one.left
    return tuple(made)


def _has_room(newcomer: int, running: Sequence[Running], limits: Limits) -> bool:
    """Alone, every request has room: it would not have been accepted otherwise."""
    longest = max(newcomer, _longest(running)) + HEADROOM
    return not running or fits(len(running) + 1, longest, limits)


def fits(rows: int, longest: int, limits: Limits) -> bool:
    """Whether so many rows can be so long."""
    return rows <= limits.max_rows and rows * grained(longest) <= limits.kv_tokens


def grained(length: int) -> int:
    """The smallest capacity for `length`."""
    return -(-length // GRAIN) * GRAIN


def _longest(running: Sequence[Running]) -> int:
    return max((one.length for one in running), default=0)


@dataclass(frozen=True)
class Geometry:
    """Shape of the cache."""

    rows: int
    capacity: int


FIRST = Geometry(4, 2 * GRAIN)
"""What the cache begins with."""


def geometry(now: Geometry, *, busy: int, longest: int, limits: Limits, spare: bool = False) -> Geometry:
    """The cache's next shape, `now` if that will do. `busy` rows must fit, each with `longest` positions.

    Both sides double, so that copying costs little on average; where doubling would exceed the budget, rows
    are only as long as they must be, and if need be shorter than now. `spare` asks for one more row than are
    busy, to remember a finished request in, if that can be had without shortening anything.
    """
    if busy <= now.rows and longest <= now.capacity and not spare:
        return now
    capacity = now.capacity
    while capacity < longest:
        capacity *= 2
    if busy * capacity > limits.kv_tokens:
        capacity = grained(longest)
    possible = max(busy, min(limits.max_rows, limits.kv_tokens // capacity))
    rows = now.rows
    if busy > rows or (spare and capacity == now.capacity):
        rows = max(busy, 2 * rows)
    return Geometry(min(rows, possible), capacity)
