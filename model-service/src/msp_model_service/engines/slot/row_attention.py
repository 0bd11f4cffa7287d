"""Attention of a decode step on a CPU: each row looks at its own keys only, not at the longest row's padding.

At one token per row attention costs what reading the keys and values costs; with rows of mixed lengths more
than half of them would be masked. The ranges travel with the mask; whatever comes without them, or is
not one token per row, is computed by transformers' `sdpa`.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_by_row"

WORTH_IT = 0.85
"""Above this share of keys that are looked at, one call for all rows is as fast."""

Ranges = list[tuple[int, int]]
"""Of each row: its first key and the one behind its last."""

_ATTRIBUTE = "msp_ranges"


def install(model: Any) -> bool:
    """Have the model's language part compute attention this way; False if it cannot be told so."""
    decoder = model.get_decoder()
    if model.device.type != "cpu" or decoder.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    decoder.set_attn_implementation(NAME)
    return bool(decoder.config._attn_implementation == NAME)


def with_ranges(mask: torch.Tensor, ranges: Ranges) -> torch.Tensor:
    """The mask, and what of it is true, if looking at that alone saves enough."""
    seen = sum(stop - start for start, stop in ranges)
    if seen < WORTH_IT * len(ranges) * mask.shape[-1]:
        setattr(mask, _ATTRIBUTE, ranges)
    return mask


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function as transformers wants it."""
    ranges: Ranges | None = getattr(attention_mask, _ATTRIBUTE, None)
    if ranges is None or query.shape[2] != 1 or more.get("position_bias") is not None:
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **more
        )
        return plain
    rows, heads, _, width = query.shape
    # The queries of heads that share keys stand in for several tokens: nothing has to be repeated.
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    seen = [
        scaled_dot_product_attention(
            grouped[i : i + 1],
            key[i : i + 1, :, start:stop],
            value[i : i + 1, :, start:stop],
            scale=more.get("scaling"),
        )
        for i, (start, stop) in enumerate(ranges)
    ]
    return torch.cat(seen).reshape(rows, 1, heads, value.shape[3]), None
