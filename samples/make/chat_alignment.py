"""An auxiliary loss that shows one attention head which tool a call names, and when no tool is to be called.

Cross-entropy alone tells a model of this size little about where a tool's name comes from: it first learns
the names by heart. Here one head is told, where an answer starts and at each token of a called name, which
earlier token to look at. The head is part of the model and stays; the loss is needed in training alone.
"""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

HEAD = 1
"""Of the last layer but one. The copying heads are in the layers below."""
NOWHERE = 0
"""The position to look at where no tool is to be called: the conversation's first token."""


class Link(NamedTuple):
    looking: int
    looked_at: int


class Links:
    """Finds the links in a conversation's ids."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._opening = tokenizer.encode('{"name": "')

    def find(self, ids: Sequence[int], names: Iterable[str], answers: Sequence[int]) -> list[Link]:
        """Links of one conversation with tools of these `names`; `answers`: the ids before each answer."""
        links: list[Link] = []
        calling: dict[int, int] = {}
        for name in names:
            tokens = self._tokenizer.encode(name)
            source = _places(ids, [*tokens, *self._tokenizer.encode("(")])[0]
            for start in _places(ids, [*self._opening, *tokens, *self._tokenizer.encode('",')]):
                called = start + len(self._opening)
                links.extend(Link(called - 1 + nth, source + nth) for nth in range(len(tokens)))
                answer = max(place for place in answers if place < called)
                calling.setdefault(answer, source)
        links.extend(Link(answer, calling.get(answer, NOWHERE)) for answer in answers)
        return links


def _places(ids: Sequence[int], wanted: list[int]) -> list[int]:
    size = len(wanted)
    return [at for at in range(len(ids) - size + 1) if ids[at : at + size] == wanted]


class Guide:
    """Sees what reaches the guided layer, from entering to leaving the context."""

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        self._attention = model.model.layers[-2].self_attn
        config = model.config
        self._size = config.hidden_size // config.num_attention_heads
        self._group = HEAD * config.num_key_value_heads // config.num_attention_heads
        self._hidden: Tensor | None = None
        self._rotary: tuple[Tensor, Tensor] | None = None

    def __enter__(self) -> Self:
        self._hook = self._attention.register_forward_pre_hook(self._see, with_kwargs=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()

    def _see(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._hidden, self._rotary = kwargs["hidden_states"], kwargs["position_embeddings"]

    def loss(self, links: Tensor) -> Tensor:
        """Mean cross-entropy of where the head looked in the last forward pass.

        `links` is (links, 3): row, place that looks, place to look at.
        """
        assert self._hidden is not None
        assert self._rotary is not None
        cos, sin = self._rotary
        row, looking, looked_at = links.unbind(1)
        queries = self._head(self._attention.q_proj, self._hidden[row, looking], HEAD)
        queries = _rotated(queries, cos[row, looking], sin[row, looking])
        keys = _rotated(self._head(self._attention.k_proj, self._hidden, self._group), cos, sin)
        scores = torch.einsum("nd,nkd->nk", queries, keys[row]) / self._size**0.5
        later = torch.arange(keys.shape[1]) > looking[:, None]
        return torch.nn.functional.cross_entropy(scores.masked_fill(later, -torch.inf), looked_at)

    def _head(self, projection: torch.nn.Linear, hidden: Tensor, nth: int) -> Tensor:
        rows = slice(nth * self._size, (nth + 1) * self._size)
        return torch.nn.functional.linear(hidden, projection.weight[rows], projection.bias[rows])


def _rotated(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = vectors.chunk(2, dim=-1)
    return vectors * cos + torch.cat([-right, left], dim=-1) * sin
