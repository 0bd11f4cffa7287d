"""Who attends to whom, spelled out: rows of one batch have different lengths, which no model can guess."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from msp_model_service.engines.slot.kv_cache import Piece
from msp_model_service.engines.slot.row_attention import Segment, with_groups, with_segments

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

    def of_pieces(self, pieces: Sequence[Piece], device: torch.device) -> Mask | None:
        """For pieces of several prompts, one behind the other; None if it is one prompt's beginning."""
        if len(pieces) == 1 and pieces[0].start == 0:
            return None
        queries = torch.cat([torch.arange(one.start, one.stop, device=device) for one in pieces])
        keys = torch.cat([torch.arange(one.stop, device=device) for one in pieces])
        seen = keys <= queries[:, None]
        if len(pieces) > 1:
            numbers = torch.arange(len(pieces), device=device)
            whose = numbers.repeat_interleave(torch.tensor([one.count for one in pieces], device=device))
            of_key = numbers.repeat_interleave(torch.tensor([one.stop for one in pieces], device=device))
            seen &= of_key == whose[:, None]
        mask = self._by_kind(seen[None], queries[None, :, None] - keys)
        for kind, part in self._parts(mask):
            with_segments(part, self._segments(pieces, kind))
        return mask

    def of_next_tokens(self, positions: Sequence[int], device: torch.device) -> Mask | None:
        """For one query per row, over the keys up to the longest row's; None if all see everything."""
        length = max(positions) + 1
        if min(positions) + 1 == length and self.window is None and not self.additive:
            return None
        at = torch.tensor(positions, device=device)[:, None, None]
        back = at - torch.arange(length, device=device)
        mask = self._by_kind(back >= 0, back)
        for kind, part in self._parts(mask):
            window = self.window if kind == SLIDING and self.window is not None else length
            with_groups(part, [(max(0, at + 1 - window), at + 1) for at in positions])
        return mask

    def of_static_positions(self, positions: torch.Tensor, length: int) -> Mask:
        """For one query per row, at positions that only the device knows, over `length` keys."""
        back = positions[:, None, None] - torch.arange(length, device=positions.device)
        return self._by_kind(back >= 0, back)

    def _segments(self, pieces: Sequence[Piece], kind: str) -> list[Segment]:
        made: list[Segment] = []
        query = key = 0
        for one in pieces:
            slides = kind == SLIDING and self.window is not None and one.stop > self.window
            plain = one.start == 0 and not slides
            made.append(Segment((query, query + one.count), (key, key + one.stop), plain=plain))
            query, key = query + one.count, key + one.stop
        return made

    def _parts(self, mask: Mask) -> list[tuple[str, torch.Tensor]]:
        return list(mask.items()) if isinstance(mask, dict) else [(min(self.kinds), mask)]

    def _by_kind(self, seen: torch.Tensor, back: torch.Tensor) -> Mask:
        """`seen` ([rows, queries, keys]) by full layers; of it what is not too far `back` by sliding ones."""
        if self.window is None:
            return self._form(seen)
        sliding = self._form(seen & (back < self.window))
        return sliding if self.kinds == {SLIDING} else {FULL: self._form(seen), SLIDING: sliding}

    def _form(self, seen: torch.Tensor) -> torch.Tensor:
        seen = seen[:, None]
        if not self.additive:
            return seen
        zeros = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return zeros.masked_fill_(~seen, torch.finfo(self.dtype).min)
