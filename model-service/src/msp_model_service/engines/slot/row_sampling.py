"""How one request wants its tokens chosen, and what that choice has to remember."""

from collections.abc import Sequence

import torch

from msp_model_service.engines.chat import Sampling
from msp_model_service.engines.grammar import Grammar
from msp_model_service.engines.sampling import GREEDY_BELOW, SamplingDefaults


class RowSampling:
    """A request's wishes with the model's defaults filled in, its random generator and its token counts.

    The generator lives on the CPU whatever the device, and gives one number per token: a seed means the same
    beside any neighbours and on any device.
    """

    def __init__(
        self,
        sampling: Sampling,
        defaults: SamplingDefaults,
        prompt: Sequence[int],
        *,
        vocabulary_size: int,
        device: torch.device,
        top_logprobs: int | None = None,
        grammar: Grammar | None = None,
    ) -> None:
        asked, default = sampling, defaults
        self.temperature = default.temperature if asked.temperature is None else asked.temperature
        self.greedy = self.temperature < GREEDY_BELOW
        self.top_p = default.top_p if asked.top_p is None else asked.top_p
        self.top_k = default.top_k if asked.top_k is None else asked.top_k
        self.min_p = default.min_p if asked.min_p is None else asked.min_p
        self.top_logprobs = top_logprobs
        self._grammar = grammar
        self._repetition = (
            default.repetition_penalty if asked.repetition_penalty is None else asked.repetition_penalty
        )
        self._presence, self._frequency = asked.presence_penalty, asked.frequency_penalty
        self._bias_ids = torch.tensor(list(asked.logit_bias), dtype=torch.long, device=device)
        self._bias = torch.tensor(list(asked.logit_bias.values()), dtype=torch.float32, device=device)
        self._seen: torch.Tensor | None = None
        self._counts: torch.Tensor | None = None
        if self._repetition != 1.0:
            self._seen = torch.zeros(vocabulary_size, dtype=torch.bool, device=device)
            self._seen[torch.tensor(prompt, dtype=torch.long, device=device)] = True
        if self._presence or self._frequency:
            self._counts = torch.zeros(vocabulary_size, device=device)
        self._random = torch.Generator()
        if asked.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(asked.seed & (2**63 - 1))

    @property
    def filters(self) -> bool:
        """Whether some tokens are too unlikely to be drawn."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0

    @property
    def adjusts(self) -> bool:
        """Whether `adjust` would change anything."""
        return (
            self._grammar is not None
            or self._seen is not None
            or self._counts is not None
            or self._bias_ids.numel() > 0
        )

    def adjust(self, scores: torch.Tensor) -> None:
        """Penalties, bias and grammar, in place on the row's logits; in the order of the plain engine."""
        if self._seen is not None:
            penalised = torch.where(scores < 0, scores * self._repetition, scores / self._repetition)
            torch.where(self._seen, penalised, scores, out=scores)
        if self._counts is not None:
            scores -= self._frequency * self._counts + self._presence * (self._counts > 0)
        if self._bias_ids.numel():
            scores[self._bias_ids] += self._bias
        if self._grammar is not None:
            self._grammar.mask(scores)

    def draw(self) -> float:
        """The next random number, 0 to 1; one per sampled token."""
        return float(torch.rand((), generator=self._random, dtype=torch.float64))

    def replay(self, token_id: int) -> None:
        """Count a token that was chosen elsewhere, and the draw that chose it."""
        if not self.greedy:
            self.draw()
        self.chosen(token_id)

    def chosen(self, token_id: int) -> None:
        """Count the token that the row got."""
        if self._seen is not None:
            self._seen[token_id] = True
        if self._counts is not None:
            self._counts[token_id] += 1
        if self._grammar is not None:
            self._grammar.accept(token_id)
