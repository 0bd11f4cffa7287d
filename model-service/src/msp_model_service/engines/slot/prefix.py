"""Where a newcomer goes, so that as little as possible of its prompt must be read. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from msp_model_service.engines.slot.rows import Row

_STRIDE = 256


@dataclass(frozen=True)
class Place:
    """A row, and how much of the prompt need not be read."""

    row: int
    reused: int = 0
    copy_from: int | None = None
    """The row that holds the reused beginning; None: it is in `row` already."""


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many keys both begin with."""
    shorter = min(len(one), len(other))
    start = 0
    while start < shorter and one[start : start + _STRIDE] == other[start : start + _STRIDE]:
        start += _STRIDE
    start = min(start, shorter)
    while start < shorter and one[start] == other[start]:
        start += 1
    return start


def place(prompt: list[int], rows: Sequence[Row]) -> Place | None:
    """A row that nobody owns, or None if all are busy.

    The prompt's last token is never reused: its logits are wanted. A row that holds much more than the common
    beginning (another conversation under the same system prompt) is copied from rather than cut short, if
    there is another row to copy to.
    """
    free = [i for i, row in enumerate(rows) if not row.busy]
    if not free:
        return None
    free.sort(key=lambda i: (bool(rows[i].keys), rows[i].used_at))
    usable = prompt[:-1]
    shared = [common_prefix(usable, row.keys) for row in rows]
    best = max(range(len(rows)), key=lambda i: (shared[i], not rows[i].busy, rows[i].used_at))
    if not shared[best]:
        return Place(free[0])
    mostly_shared = 2 * shared[best] >= len(rows[best].keys)
    if best in free and (mostly_shared or len(free) == 1):
        return Place(best, shared[best])
    target = next(i for i in free if i != best)
    return Place(target, shared[best], copy_from=best)
