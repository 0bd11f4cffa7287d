"""A decode step whose tensors have fixed places and shapes, for any rows up to a number and any length.

What differs from step to step is only what stands in these tensors: nothing here may ask for their contents.
"""

from collections.abc import Callable, Sequence

import torch

from msp_model_service.engines.slot.kv_cache import SlotCache
from msp_model_service.engines.slot.masks import Mask, Masks

VIEW_GRAIN = 256
"""Rows are looked at up to a multiple of it."""

NextLogits = Callable[[torch.Tensor, torch.Tensor, Mask], torch.Tensor]
"""A forward pass for ids and positions ([rows, 1] each) under a mask: logits [rows, vocabulary], float32."""


def rows_for(count: int, cache_rows: int) -> int:
    """The smallest power of two, or all that the cache has."""
    return min(1 << (count - 1).bit_length(), cache_rows)


def view_for(length: int, capacity: int) -> int:
    """How far rows are looked at if the longest holds `length` positions after the step."""
    return min(-(-length // VIEW_GRAIN) * VIEW_GRAIN, capacity)


class StaticRows:
    """What steps of so many rows read and write, whatever they look at."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.count = count
        self._inputs = torch.zeros((3, count), dtype=torch.long, device=device)
        self.token_ids, self.positions, self.sources = self._inputs
        self.logits: torch.Tensor | None = None
        """Of the last step, [rows, vocabulary]; None before the first."""

    def fill(self, token_ids: Sequence[int], positions: Sequence[int]) -> None:
        """The rows beyond those given do what the first does, and write what it writes where it writes it.

        So they leave alone what such a row holds: it may be another request's, or remembered.
        """
        spare = self.count - len(token_ids)
        columns = [
            [*token_ids, *([token_ids[0]] * spare)],
            [*positions, *([positions[0]] * spare)],
            [*range(len(token_ids)), *([0] * spare)],
        ]
        self._inputs.copy_(torch.tensor(columns))


class StaticTokens:
    """One token each for the cache's first rows, as `StaticRows` says. For one pass."""

    def __init__(self, rows: StaticRows, view: int) -> None:
        self._rows, self._view = rows, view
        self._places: dict[tuple[int, int], torch.Tensor] = {}

    def write(self, held: torch.Tensor, new: torch.Tensor) -> None:
        """Each row's, but for a spare row the first one's once more."""
        _, heads, capacity, width = held.shape
        places = self._places.get((heads, capacity))
        if places is None:
            each = torch.arange(heads, device=held.device)
            by_head = (self._rows.sources[:, None] * heads + each) * capacity
            places = self._places[heads, capacity] = (by_head + self._rows.positions[:, None]).flatten()
        written = new.index_select(0, self._rows.sources).reshape(-1, width)
        held.view(-1, width).index_copy_(0, places, written)

    def read(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Up to the same length in all rows; the mask knows better."""
        return held[: self._rows.count, :, : self._view]


class StaticStep:
    """The step for so many rows and so long a view."""

    def __init__(
        self, rows: StaticRows, view: int, *, cache: SlotCache, masks: Masks, next_logits: NextLogits
    ) -> None:
        self.rows = rows
        self.repeat: Callable[[], None] | None = None
        """Does what `run` does; None as long as it was not recorded."""
        self._view = view
        self._cache, self._masks, self._next_logits = cache, masks, next_logits

    def run(self) -> None:
        """From the tensors of `rows`, into its logits. The first run of these rows makes their place."""
        rows = self.rows
        self._cache.at = StaticTokens(rows, self._view)
        mask = self._masks.of_static_positions(rows.positions, self._view)
        logits = self._next_logits(rows.token_ids[:, None], rows.positions[:, None], mask)
        if rows.logits is None:
            rows.logits = torch.empty_like(logits)
        rows.logits.copy_(logits)
