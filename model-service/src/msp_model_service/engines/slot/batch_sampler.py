"""The next token of every row at once, each chosen as its own request asks.

Filters follow transformers' order: temperature, top_k, top_p, min_p. Where a row keeps few candidates only
those are sorted; the result is the same as with the whole vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from msp_model_service.chat.vocabulary import Vocabulary
from msp_model_service.engines.chat import Likelihood, TokenLogprob
from msp_model_service.engines.slot.row_sampling import RowSampling

CANDIDATES = 1024
"""Tokens that are sorted at first; enough for nearly every top_k and top_p."""


class NotANumber(ArithmeticError):
    """The model's logits for a row are no numbers, or all tokens are ruled out."""


@dataclass(frozen=True)
class Choice:
    """A row's next token."""

    token_id: int
    logprob: TokenLogprob | None = None


def choose(
    logits: torch.Tensor, rows: Sequence[RowSampling], vocabulary: Vocabulary
) -> list[Choice | Exception]:
    """One token per row of `logits` ([rows, vocabulary], float32). A row's own failure takes its place."""
    failures: dict[int, Exception] = {}
    scores = logits
    if any(row.adjusts for row in rows):
        scores = logits.clone()
        for i, row in enumerate(rows):
            if row.adjusts:
                try:
                    row.adjust(scores[i])
                except Exception as error:  # noqa: BLE001 - a grammar is others' code; the row fails, not the batch
                    failures[i] = error
    # What is no number comes out as the largest.
    largest, tokens = scores.max(dim=-1)
    usable = largest.isfinite()
    if scores is not logits:
        usable &= ~logits.amax(dim=-1).isnan()
    sampled = [i for i, row in enumerate(rows) if not row.greedy and i not in failures]
    if sampled:
        tokens[sampled] = _sample(scores[sampled], [rows[i] for i in sampled])
    logprobs = _logprobs(logits, rows, tokens, vocabulary)
    made: list[Choice | Exception] = []
    for i, (row, token_id, good) in enumerate(zip(rows, tokens.tolist(), usable.tolist(), strict=True)):
        if i in failures:
            made.append(failures[i])
        elif not good:
            made.append(NotANumber("the model's logits leave no token to choose"))
        else:
            made.append(_settled(row, Choice(token_id, logprobs.get(i))))
    return made


def _settled(row: RowSampling, choice: Choice) -> Choice | Exception:
    try:
        row.chosen(choice.token_id)
    except Exception as error:  # noqa: BLE001 - as above
        return error
    return choice


def _sample(scores: torch.Tensor, rows: Sequence[RowSampling]) -> torch.Tensor:
    """A token per row by its own draw, from everything or from what its filters leave."""
    draws = torch.tensor([row.draw() for row in rows], dtype=torch.float64, device=scores.device)
    tokens = torch.empty(len(rows), dtype=torch.long, device=scores.device)
    filtered = [i for i, row in enumerate(rows) if row.filters]
    whole = [i for i, row in enumerate(rows) if not row.filters]
    if whole:
        temperatures = _column([rows[i].temperature for i in whole], scores.device)
        tokens[whole] = _drawn((scores[whole] / temperatures).softmax(dim=-1), draws[whole])
    if filtered:
        ids, weights = distribution(scores[filtered], [rows[i] for i in filtered])
        # By id, not by likelihood: tokens all but equally likely change places by rounding alone, and a seed
        # would then say something else beside other neighbours.
        ids, order = ids.sort(dim=-1)
        at = _drawn(weights.gather(1, order), draws[filtered])
        tokens[filtered] = ids.gather(1, at[:, None])[:, 0]
    return tokens


def _drawn(weights: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The column of each row in which its draw falls."""
    reached = weights.cumsum(dim=-1, dtype=torch.float64)
    at = torch.searchsorted(reached, (draws * reached[:, -1])[:, None], right=True)
    # Not beyond the last column that has weight: rounding must never choose what was ruled out.
    last = (weights > 0).int().cumsum(dim=-1).argmax(dim=-1, keepdim=True)
    return torch.minimum(at, last)[:, 0]


def distribution(scores: torch.Tensor, rows: Sequence[RowSampling]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their weights, likeliest first, both [rows, candidates]; weights are not normalised."""
    device, size = scores.device, scores.shape[1]
    scores = scores / _column([row.temperature for row in rows], device)
    top_k = _column([min(row.top_k, size) if row.top_k > 0 else size for row in rows], device)
    top_p = _column([row.top_p for row in rows], device)
    min_p = _column([row.min_p for row in rows], device)
    # A top_k counts within what is sorted, so all that it keeps must be there.
    wanted = min(size, CANDIDATES) if all(row.top_k <= CANDIDATES for row in rows) else size
    while True:
        kept, ids = scores.topk(wanted)
        weights = _filtered(scores, kept, top_k, top_p, min_p)
        # If the last candidate of a row is still in, the ones beyond it might be too.
        if wanted == size or not bool((weights[:, -1] > 0).any()):
            return ids, weights
        wanted = size


def _filtered(
    scores: torch.Tensor, kept: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor
) -> torch.Tensor:
    """Probabilities of the sorted candidates `kept`, 0 for those that a filter takes out."""
    place = torch.arange(kept.shape[1], device=kept.device)[None]
    likelihoods = (kept - scores.logsumexp(dim=-1, keepdim=True)).exp()
    likelihoods = likelihoods.masked_fill(place >= top_k, 0.0)
    # top_p counts shares of what top_k left; where top_k takes nothing out, of everything.
    whole = torch.where(
        top_k < scores.shape[1], likelihoods.sum(dim=-1, keepdim=True), torch.ones_like(top_p)
    )
    before = likelihoods.cumsum(dim=-1) - likelihoods
    beyond = (before >= top_p * whole) & (top_p < 1.0) & (place > 0)
    unlikely = likelihoods < min_p * likelihoods[:, :1]
    return likelihoods.masked_fill(beyond | unlikely, 0.0)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, device=device)[:, None]


def _logprobs(
    logits: torch.Tensor, rows: Sequence[RowSampling], tokens: torch.Tensor, vocabulary: Vocabulary
) -> dict[int, TokenLogprob]:
    """Of the raw logits, for the rows that ask."""
    asking = [(i, row.top_logprobs) for i, row in enumerate(rows) if row.top_logprobs is not None]
    if not asking:
        return {}
    indices = [i for i, _ in asking]
    all_of_them = logits[indices].log_softmax(dim=-1)
    values, ids = (part.tolist() for part in all_of_them.topk(max(1, *(count for _, count in asking))))
    own = all_of_them.gather(1, tokens[indices][:, None])[:, 0].tolist()
    made: dict[int, TokenLogprob] = {}
    for at, (i, count) in enumerate(asking):
        token_id = int(tokens[i])
        top = tuple(
            Likelihood(other, vocabulary.bytes_of(other), value)
            for other, value in zip(ids[at][:count], values[at][:count], strict=True)
        )
        made[i] = TokenLogprob(token_id, vocabulary.bytes_of(token_id), own[at], top)
    return made
