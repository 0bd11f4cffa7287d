"""Attention on a CPU: nobody looks at what is masked, other rows' padding and other prompts' words.

At one token per row attention costs what reading the keys and values costs; with rows of mixed lengths more
than half of them would be masked, and with several prompts in one forward pass most of them. What is to be
looked at travels with the mask; what comes without it is computed by transformers' `sdpa`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_by_row"

CALL_COST = 48
"""A call costs as much as looking at so many keys: so much padding is taken to save one."""

Range = tuple[int, int]
"""The first, and the one behind the last."""


@dataclass(frozen=True)
class Group:
    """Neighbouring rows of a decode step that are looked at together."""

    rows: Range
    keys: Range
    padded: bool
    """Whether some of the keys are not for all of the rows."""


@dataclass(frozen=True)
class Segment:
    """A piece of a prompt among others."""

    queries: Range
    keys: Range
    plain: bool
    """Whether each query sees all keys up to its own, of as many as there are queries."""


_ATTRIBUTE = "msp_seen"


def install(model: Any) -> bool:
    """Have the model's language part compute attention this way; False if it cannot be told so."""
    decoder = model.get_decoder()
    if model.device.type != "cpu" or decoder.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    decoder.set_attn_implementation(NAME)
    return bool(decoder.config._attn_implementation == NAME)


def with_groups(mask: torch.Tensor, ranges: Sequence[Range]) -> None:
    """Note on a decode step's mask which keys each row sees."""
    setattr(mask, _ATTRIBUTE, groups(ranges))


def with_segments(mask: torch.Tensor, segments: list[Segment]) -> None:
    """Note on a mask which keys each piece sees."""
    setattr(mask, _ATTRIBUTE, segments)


def groups(ranges: Sequence[Range]) -> list[Group]:
    """Neighbours of about the same length together."""
    made: list[Group] = []
    for row, (start, stop) in enumerate(ranges):
        if made:
            last = made[-1]
            first, keys = last.rows[0], (min(last.keys[0], start), max(last.keys[1], stop))
            wide = keys[1] - keys[0]
            more = (row - first) * (wide - (last.keys[1] - last.keys[0])) + wide - (stop - start)
            if more <= CALL_COST:
                made[-1] = Group((first, row + 1), keys, padded=last.padded or more > 0)
                continue
        made.append(Group((row, row + 1), (start, stop), padded=False))
    return made


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function as transformers wants it."""
    seen: list[Group] | list[Segment] | None = getattr(attention_mask, _ATTRIBUTE, None)
    if attention_mask is None or not seen or more.get("position_bias") is not None:
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **more
        )
        return plain
    scale = more.get("scaling")
    parts = [
        _of_group(one, query, key, value, attention_mask, scale)
        if isinstance(one, Group)
        else _of_segment(one, query, key, value, attention_mask, scale)
        for one in seen
    ]
    if isinstance(seen[0], Group):
        rows, heads = query.shape[:2]
        return torch.cat(parts).reshape(rows, 1, heads, value.shape[3]), None
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _of_group(
    group: Group,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float | None,
) -> torch.Tensor:
    (first, last), (start, stop) = group.rows, group.keys
    # The queries of heads that share keys stand in for several tokens: nothing has to be repeated.
    grouped = query[first:last].reshape(last - first, key.shape[1], -1, query.shape[3])
    return scaled_dot_product_attention(
        grouped,
        key[first:last, :, start:stop],
        value[first:last, :, start:stop],
        attn_mask=mask[first:last, :, :, start:stop] if group.padded else None,
        scale=scale,
    )


def _of_segment(
    segment: Segment,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float | None,
) -> torch.Tensor:
    (first, last), (start, stop) = segment.queries, segment.keys
    return scaled_dot_product_attention(
        query[:, :, first:last],
        key[:, :, start:stop],
        value[:, :, start:stop],
        attn_mask=None if segment.plain else mask[:, :, first:last, start:stop],
        is_causal=segment.plain,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
