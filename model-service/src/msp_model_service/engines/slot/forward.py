"""Forward passes over rows of the cache."""

import inspect
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from msp_model_service.engines.slot import row_attention
from msp_model_service.engines.slot.kv_cache import NextTokens, Piece, Pieces, SlotCache
from msp_model_service.engines.slot.masks import Mask, Masks
from msp_model_service.engines.slot.recorded_decode import RecordedDecode
from msp_model_service.engines.slot.scheduler import FIRST
from msp_model_service.engines.slot.step_recorder import StepRecorder


class Forward:
    """A model and its cache. For one thread, under `torch.inference_mode`.

    With a `recorder`, decode steps of the first rows are recorded and repeated.
    """

    def __init__(self, model: Any, recorder: StepRecorder | None = None) -> None:
        row_attention.install(model)
        config = model.config.get_text_config()
        self._model = model
        self._masks = Masks.of(config, model.dtype)
        self._device = model.device
        self._takes_few_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.cache = SlotCache(config.num_hidden_layers, FIRST)
        self.recorded: RecordedDecode | None = None
        if recorder is not None:
            self.recorded = RecordedDecode(
                recorder,
                cache=self.cache,
                masks=self._masks,
                next_logits=self._next_logits,
                device=self._device,
            )

    def prefill(
        self,
        pieces: Sequence[Piece],
        token_ids: Sequence[int],
        embeddings: torch.Tensor | None = None,
        *,
        every_token: bool = False,
    ) -> torch.Tensor:
        """Read pieces of prompts, one behind the other: the logits ([pieces, vocabulary]) after each.

        `embeddings` ([tokens, width]) stand in for the ids of a prompt with images. `every_token`: the logits
        after each token, not only after each piece's last.
        """
        self.cache.at = Pieces(tuple(pieces))
        positions = torch.cat([torch.arange(one.start, one.stop, device=self._device) for one in pieces])[
            None
        ]
        mask = self._masks.of_pieces(pieces, self._device)
        ends = list(accumulate(one.count for one in pieces))
        wanted = list(range(ends[-1])) if every_token else [end - 1 for end in ends]
        if embeddings is None:
            ids = torch.tensor([list(token_ids)], device=self._device)
            return self._call(positions, mask, wanted, input_ids=ids)[0]
        return self._call(positions, mask, wanted, inputs_embeds=embeddings[None].to(self._device))[0]

    def decode(self, first: int, token_ids: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """The next token of the rows from `first` on, each at its position: logits [rows, vocabulary].

        They are the caller's until the next call.
        """
        if self.recorded is not None and first == 0:
            logits = self.recorded.decode(token_ids, positions)
            if logits is not None:
                return logits
        at = self.cache.at = NextTokens(first, positions, self._device)
        mask = self._masks.of_next_tokens(positions, self._device)
        ids = torch.tensor(token_ids, device=self._device)[:, None]
        return self._call(at.positions[:, None], mask, [0], input_ids=ids)[:, 0]

    def probe(self) -> None:
        """A forward pass apart from all rows. Raises if the model can compute nothing at all any more."""
        ids = torch.zeros((1, 1), dtype=torch.long, device=self._device)
        # Reading a number waits for the device, whose errors come late.
        self._model(input_ids=ids, use_cache=False).logits.float().sum().item()

    def _next_logits(self, ids: torch.Tensor, positions: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Of one token per row, wherever the cache is `at`. Makes no tensor of what only Python knows."""
        logits: torch.Tensor = self._model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        return logits[:, -1].float()

    def _call(
        self, positions: torch.Tensor, mask: Mask | None, wanted: list[int], **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Logits after the `wanted` tokens of each row."""
        at = torch.tensor(wanted, device=self._device)
        keep: int | torch.Tensor = 1 if wanted == [positions.shape[1] - 1] else at
        out = self._model(
            **inputs,
            **({"logits_to_keep": keep} if self._takes_few_logits else {}),
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits
        if logits.shape[1] != len(wanted):
            logits = logits[:, at]
        return logits.float()
