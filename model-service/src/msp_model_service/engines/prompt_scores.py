"""Log probabilities of a prompt's own tokens, each given those before it."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from msp_model_service.chat.vocabulary import Vocabulary
from msp_model_service.engines.chat import Likelihood, PromptToken, TokenLogprob

_AT_ONCE = 256
"""Positions of one forward pass: their logits over a large vocabulary take 150 MB."""


def scored(
    model: Any, token_ids: Sequence[int], top: int, vocabulary: Vocabulary, device: torch.device
) -> tuple[PromptToken, ...]:
    """The prompt's tokens with their log probabilities. Engine's thread only."""
    told = [PromptToken(vocabulary.bytes_of(token_ids[0]), None)]
    following = iter(token_ids[1:])
    for logits in _logits(model, torch.tensor([list(token_ids)], device=device)):
        rows = logits.float().log_softmax(dim=-1)
        values, ids = rows.topk(max(1, top))
        # The last position speaks of the answer's first token: `zip` leaves it out.
        for row, best, best_ids, token_id in zip(
            rows, values.tolist(), ids.tolist(), following, strict=False
        ):
            likeliest = tuple(
                Likelihood(i, vocabulary.bytes_of(i), value)
                for i, value in zip(best_ids[:top], best[:top], strict=True)
            )
            own = float(row[token_id])
            data = vocabulary.bytes_of(token_id)
            told.append(PromptToken(data, TokenLogprob(token_id, data, own, likeliest)))
    return tuple(told)


def _logits(model: Any, ids: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of all positions, some at a time where the model can go on from what it has read."""
    cache = None
    for start in range(0, ids.shape[1], _AT_ONCE):
        some = ids[:, start : start + _AT_ONCE]
        last = start + _AT_ONCE >= ids.shape[1]
        made = model(input_ids=some, past_key_values=cache, use_cache=not last)
        cache = getattr(made, "past_key_values", None)
        if cache is None and not last:
            yield model(input_ids=ids, use_cache=False).logits[0]
            return
        yield made.logits[0]
