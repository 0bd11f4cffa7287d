"""Who attends to whom, spelled out: rows of one batch have different lengths, which no model can guess."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from msp_model_service.engines.slot.row_attention import with_ranges

FULL, SLIDING = "full_attention", "sliding_attention"
Mask = torch.Tensor | dict[str, torch.Tensor]


@dataclass(frozen=True)
class Masks:
    """Masks in the form that a model's attention reads."""

    dtype: torch.dtype
    additive: bool
    """`eager` attention adds the mask to its scores; `sdpa` takes booleans."""
    window: int | None
    """How far back sliding layers see."""
    kinds: frozenset[str]

    @classmethod
    def of(cls, config: Any, dtype: torch.dtype) -> "Masks":
        """As a text model's configuration says."""
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ())
        if not kinds:
            # Families without a list of layer types (Mistral, Phi 3) slide in every layer or in none.
            kinds = {SLIDING if window else FULL}
        return cls(
            dtype=dtype,
            additive=config._attn_implementation == "eager",
            window=int(window) if window and SLIDING in kinds else None,
            kinds=frozenset(kinds),
        )

    def causal(self, positions: torch.Tensor, length: int) -> Mask:
        """For queries at `positions` ([rows, queries]) over keys 0 to `length` - 1."""
        keys = torch.arange(length, device=positions.device)
        queries = positions[:, :, None]
        full = keys <= queries
        if self.window is None:
            return self._form(full)
        sliding = full & (queries - keys < self.window)
        if self.kinds == {SLIDING}:
            return self._form(sliding)
        return {FULL: self._form(full), SLIDING: self._form(sliding)}

    def of_next_tokens(self, positions: Sequence[int], device: torch.device) -> Mask | None:
        """For one query per row, over the keys up to the longest row's; None if all see everything."""
        length = max(positions) + 1
        if min(positions) + 1 == length and self.window is None and not self.additive:
            return None
        mask = self.causal(torch.tensor(positions, device=device)[:, None], length)
        for kind, part in mask.items() if isinstance(mask, dict) else [(min(self.kinds), mask)]:
            window = self.window if kind == SLIDING and self.window is not None else length
            with_ranges(part, [(max(0, at + 1 - window), at + 1) for at in positions])
        return mask

    def _form(self, seen: torch.Tensor) -> torch.Tensor:
        seen = seen[:, None]
        if not self.additive:
            return seen
        zeros = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return zeros.masked_fill_(~seen, torch.finfo(self.dtype).min)
