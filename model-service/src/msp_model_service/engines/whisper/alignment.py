"""When each word was said, from what the decoder attended to while writing it.

As the model's authors do: the attention of some heads, smoothed and averaged, says where each token was
heard; the cheapest path through it that never goes back gives the times. (openai/whisper, timing.py.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers.models.whisper import tokenization_whisper

from msp_model_service.engines.transcriber import Word

_MEDIAN_WIDTH = 7


def alignment_heads(model: Any) -> Mapping[int, Sequence[int]]:
    """Layer → heads that follow the sound: where the repository names none, all of the later half."""
    named = getattr(model.generation_config, "alignment_heads", None)
    layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
    if not named:
        return {layer: range(heads) for layer in range(layers // 2, layers)}
    found: dict[int, list[int]] = {}
    for layer, head in named:
        if 0 <= layer < layers and 0 <= head < heads:
            found.setdefault(layer, []).append(head)
    return found


def token_times(attention: torch.Tensor, opening: int, step_s: float) -> list[float]:
    """When each token after the opening begins, and when the last one ends, in seconds.

    `attention` is (heads, tokens, frames) of the opening, the text and the end token; a token is heard
    while the one before it is read.
    """
    deviation, mean = torch.std_mean(attention, dim=-2, keepdim=True, correction=0)
    smooth = _median((attention - mean) / deviation.clamp_min(1e-9))
    matrix = smooth.mean(0)[opening - 1 : -1].double().numpy()
    tokens, frames = cheapest_path(-matrix)
    begins = np.flatnonzero(np.diff(tokens, prepend=-1))
    times: list[float] = (frames[begins] * step_s).tolist()
    return times


def cheapest_path(costs: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the cheapest way from the first cell to the last: down, right or both at once.

    Diagonal by diagonal, whose cells do not depend on one another.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    came = np.zeros((rows + 1, columns + 1), dtype=np.int8)
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        best = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        came[i, j] = best
        total[i, j] = costs[i - 1, j - 1] + np.choose(best, (both, down, right))
    path = []
    i, j = rows, columns
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        step = came[i, j]
        i, j = i - (step != 2), j - (step != 1)
    way = np.array(path[::-1], dtype=np.int64)
    return way[:, 0], way[:, 1]


def words(tokenizer: Any, tokens: Sequence[int], times: Sequence[float], language: str | None) -> list[Word]:
    """Words with their times out of tokens; languages without blanks are cut between characters.

    `times` are one more than the tokens.
    """
    name = tokenization_whisper.LANGUAGES.get(language or "", "english")
    texts, _, places = tokenization_whisper._combine_tokens_into_words(tokenizer, list(tokens), name)
    return [
        Word(text.strip(), start=times[place[0]], end=times[place[-1] + 1], first_token=place[0])
        for text, place in zip(texts, places, strict=True)
        if text.strip()
    ]


def _median(values: torch.Tensor) -> torch.Tensor:
    """Along the frames."""
    margin = _MEDIAN_WIDTH // 2
    if values.shape[-1] <= margin:
        return values
    padded = functional.pad(values, (margin, margin), mode="reflect")
    return padded.unfold(-1, _MEDIAN_WIDTH, 1).sort(-1).values[..., margin]
