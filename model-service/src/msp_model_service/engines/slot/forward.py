"""Forward passes over rows of the cache."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from msp_model_service.engines.slot import row_attention
from msp_model_service.engines.slot.kv_cache import NextTokens, Piece, SlotCache
from msp_model_service.engines.slot.masks import Mask, Masks
from msp_model_service.engines.slot.scheduler import FIRST


class Forward:
    """A model and its cache. For one thread, under `torch.inference_mode`."""

    def __init__(self, model: Any) -> None:
        row_attention.install(model)
        config = model.config.get_text_config()
        self._model = model
        self._masks = Masks.of(config, model.dtype)
        self._device = model.device
        self._few_logits = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        )
        self.cache = SlotCache(config.num_hidden_layers, FIRST)

    def prefill(
        self, row: int, start: int, token_ids: Sequence[int], embeddings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Read a piece of a prompt; the logits ([1, vocabulary]) after its last token.

        `embeddings` ([tokens, width]) stand in for the ids of a prompt with images.
        """
        count = len(token_ids)
        self.cache.at = Piece(row, start)
        positions = torch.arange(start, start + count, device=self._device)[None]
        mask = self._masks.causal(positions, start + count) if start else None
        if embeddings is None:
            return self._call(positions, mask, input_ids=torch.tensor([token_ids], device=self._device))
        return self._call(positions, mask, inputs_embeds=embeddings[None].to(self._device))

    def decode(self, first: int, token_ids: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """The next token of the rows from `first` on, each at its position: logits [rows, vocabulary]."""
        length = max(positions) + 1
        at = torch.tensor(positions, device=self._device)
        self.cache.at = NextTokens(first, at, length)
        mask = self._masks.of_next_tokens(positions, self._device)
        return self._call(at[:, None], mask, input_ids=torch.tensor(token_ids, device=self._device)[:, None])

    def probe(self) -> None:
        """A forward pass apart from all rows. Raises if the model can compute nothing at all any more."""
        ids = torch.zeros((1, 1), dtype=torch.long, device=self._device)
        # Reading a number waits for the device, whose errors come late.
        self._model(input_ids=ids, use_cache=False).logits.float().sum().item()

    def _call(self, positions: torch.Tensor, mask: Mask | None, **inputs: torch.Tensor) -> torch.Tensor:
        out = self._model(
            **inputs,
            **self._few_logits,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits
