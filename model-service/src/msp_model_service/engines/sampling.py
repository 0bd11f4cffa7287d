"""Choosing the next token from logits, as one request asks for it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from msp_model_service.chat.overrides import SamplingOverrides
from msp_model_service.chat.vocabulary import Vocabulary
from msp_model_service.engines.chat import Likelihood, Sampling, TokenLogprob
from msp_model_service.engines.grammar import Grammar

GREEDY_BELOW = 1e-4
"""Temperatures below it would only overflow: they mean greedy."""


@dataclass(frozen=True)
class SamplingDefaults:
    """What holds where a request says nothing: the repository's word, else OpenAI's defaults."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def of_repository(cls, folder: Path) -> "SamplingDefaults":
        """As `generation_config.json` says; the file may be missing."""
        file = folder / "generation_config.json"
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        given = {name: said[name] for name in cls.__dataclass_fields__ if said.get(name) is not None}
        if said.get("do_sample") is False:
            given["temperature"] = 0.0
        return cls(**given)

    def with_overrides(self, said: SamplingOverrides) -> "SamplingDefaults":
        """These, and the operator's where there are some."""
        return replace(self, **said.model_dump(exclude_none=True))


class TokenSampler:
    """Chooses the tokens of one generation.

    With a seed it has a random generator of its own, so neighbours and earlier requests change nothing.
    """

    def __init__(
        self,
        sampling: Sampling,
        defaults: SamplingDefaults,
        vocabulary: Vocabulary,
        *,
        top_logprobs: int | None,
        device: torch.device,
        grammar: Grammar | None = None,
        begun: tuple[int, ...] = (),
    ) -> None:
        """`begun` are tokens of the same answer that were chosen elsewhere."""
        self._begun = begun
        self._vocabulary = vocabulary
        self._top_logprobs = top_logprobs
        self._grammar = grammar
        self._presence, self._frequency = sampling.presence_penalty, sampling.frequency_penalty
        self._counts: torch.Tensor | None = None
        bias = sampling.logit_bias
        self._bias_ids = torch.tensor(list(bias), device=device, dtype=torch.long)
        self._bias = torch.tensor(list(bias.values()), device=device, dtype=torch.float32)
        temperature = _first(sampling.temperature, defaults.temperature)
        self._greedy = temperature < GREEDY_BELOW
        penalty = _first(sampling.repetition_penalty, defaults.repetition_penalty)
        self._penalty = RepetitionPenaltyLogitsProcessor(float(penalty)) if penalty != 1.0 else None
        self._warpers: list[Any] = [] if self._greedy else _warpers(sampling, defaults, temperature)
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed & (2**63 - 1))

    def choose(self, token_ids: torch.Tensor, logits: torch.Tensor) -> tuple[int, TokenLogprob | None]:
        """The token after `token_ids` ([1, n], prompt included), by `logits` ([1, vocabulary])."""
        raw = logits.float()
        if self._begun:
            self._catch_up(raw)
        scores = self._with_penalties(token_ids, raw)
        if self._greedy:
            token_id = int(scores.argmax(dim=-1))
        else:
            for warper in self._warpers:
                scores = warper(token_ids, scores)
            probabilities = torch.softmax(scores, dim=-1)
            token_id = int(torch.multinomial(probabilities, 1, generator=self._generator))
        if self._counts is not None:
            self._counts[token_id] += 1
        if self._grammar is not None:
            self._grammar.accept(token_id)
        return token_id, self._logprob(raw, token_id)

    def _catch_up(self, raw: torch.Tensor) -> None:
        """Take the tokens that were chosen elsewhere for its own."""
        begun, self._begun = self._begun, ()
        if begun and (self._presence or self._frequency):
            ids = torch.tensor(begun, device=raw.device)
            self._counts = torch.bincount(ids, minlength=raw.shape[-1]).float()
        for token_id in begun:
            if not self._greedy:
                # The generator moves on as it did there, so that a seed's answer goes on as it would have.
                torch.multinomial(torch.ones_like(raw), 1, generator=self._generator)
            if self._grammar is not None:
                self._grammar.accept(token_id)

    def _with_penalties(self, token_ids: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        scores = raw.clone()
        if self._penalty is not None:
            scores = self._penalty(token_ids, scores)
        if self._presence or self._frequency:
            if self._counts is None:
                self._counts = torch.zeros(raw.shape[-1], device=raw.device)
            scores -= self._frequency * self._counts + self._presence * (self._counts > 0)
        if self._bias_ids.numel():
            scores[0, self._bias_ids] += self._bias
        if self._grammar is not None:
            self._grammar.mask(scores[0])
        return scores

    def _logprob(self, raw: torch.Tensor, token_id: int) -> TokenLogprob | None:
        if self._top_logprobs is None:
            return None
        logprobs = torch.log_softmax(raw[0], dim=-1)
        values, ids = logprobs.topk(self._top_logprobs)
        top = tuple(
            Likelihood(i, self._vocabulary.bytes_of(i), value)
            for i, value in zip(ids.tolist(), values.tolist(), strict=True)
        )
        return TokenLogprob(token_id, self._vocabulary.bytes_of(token_id), float(logprobs[token_id]), top)


def _warpers(sampling: Sampling, defaults: SamplingDefaults, temperature: float) -> list[Any]:
    """In the order in which transformers applies them."""
    warpers: list[Any] = []
    if temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    if (top_k := _first(sampling.top_k, defaults.top_k)) > 0:
        warpers.append(TopKLogitsWarper(top_k))
    if (top_p := _first(sampling.top_p, defaults.top_p)) < 1.0:
        warpers.append(TopPLogitsWarper(float(top_p)))
    if (min_p := _first(sampling.min_p, defaults.min_p)) > 0.0:
        warpers.append(MinPLogitsWarper(float(min_p)))
    return warpers


def _first(asked: Any, default: Any) -> Any:
    return default if asked is None else asked
