"""Log probabilities of a prompt's own tokens, each given those before it."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from msp_model_service.chat.vocabulary import Vocabulary
from msp_model_service.engines.chat import Likelihood, PromptToken, TokenLogprob

AT_ONCE = 256
"""Positions of one forward pass: their logits over a large vocabulary take 150 MB."""


class PromptScores:
    """A prompt's scores while it is read piece by piece; logits are let go as soon as they are looked at."""

    def __init__(self, token_ids: Sequence[int], top: int, vocabulary: Vocabulary) -> None:
        self._ids = token_ids
        self._top = top
        self._vocabulary = vocabulary
        self.tokens: list[PromptToken] = []
        """Those scored so far, from the first on."""
        self.restart()

    def restart(self) -> None:
        """Forget what was read."""
        self.tokens = [PromptToken(self._vocabulary.bytes_of(self._ids[0]), None)]

    @property
    def complete(self) -> bool:
        """Whether all tokens have their score."""
        return len(self.tokens) == len(self._ids)

    def feed(self, logits: torch.Tensor) -> None:
        """Logits ([positions, vocabulary]) of the next positions, the first time from position 0 on."""
        # The last position speaks of the answer's first token.
        following = self._ids[len(self.tokens) :][: len(logits)]
        if not following:
            return
        rows = logits[: len(following)].float().log_softmax(dim=-1)
        values, ids = rows.topk(max(1, self._top))
        own = rows.gather(1, torch.tensor(following, device=rows.device)[:, None])[:, 0]
        for token_id, logprob, best, best_ids in zip(
            following, own.tolist(), values.tolist(), ids.tolist(), strict=True
        ):
            likeliest = tuple(
                Likelihood(i, self._vocabulary.bytes_of(i), value)
                for i, value in zip(best_ids[: self._top], best[: self._top], strict=True)
            )
            data = self._vocabulary.bytes_of(token_id)
            self.tokens.append(PromptToken(data, TokenLogprob(token_id, data, logprob, likeliest)))


def scored(
    model: Any, token_ids: Sequence[int], top: int, vocabulary: Vocabulary, device: torch.device
) -> tuple[PromptToken, ...]:
    """The prompt's tokens with their log probabilities. Engine's thread only."""
    scores = PromptScores(token_ids, top, vocabulary)
    for logits in _logits(model, torch.tensor([list(token_ids)], device=device)):
        scores.feed(logits)
    return tuple(scores.tokens)


def _logits(model: Any, ids: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of all positions, some at a time where the model can go on from what it has read."""
    cache = None
    for start in range(0, ids.shape[1], AT_ONCE):
        some = ids[:, start : start + AT_ONCE]
        last = start + AT_ONCE >= ids.shape[1]
        made = model(input_ids=some, past_key_values=cache, use_cache=not last)
        cache = getattr(made, "past_key_values", None)
        if cache is None and not last:
            yield model(input_ids=ids, use_cache=False).logits[0]
            return
        yield made.logits[0]
