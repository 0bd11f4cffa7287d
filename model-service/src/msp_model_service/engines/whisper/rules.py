"""Which token may stand next, and which one is taken.

The rules are those of the model's authors: some tokens never, some not first, timestamps in pairs that never
go back, and a timestamp wherever one is likelier than any word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from msp_model_service.audio.windows import Timestamps
from msp_model_service.engines.whisper.checkpoint import Checkpoint

_NEVER = -torch.inf


@dataclass(frozen=True)
class TokenRules:
    """The rules of one checkpoint, as indices into its vocabulary."""

    never: torch.Tensor
    not_first: torch.Tensor
    timestamps: Timestamps | None
    no_timestamps_token: int | None
    end_token: int
    latest_first_timestamp: int | None
    """How many steps into the window the first timestamp may be."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "TokenRules":
        """As the repository's generation config says."""
        generation, device = checkpoint.model.generation_config, checkpoint.device

        def indices(name: str) -> torch.Tensor:
            given = getattr(generation, name, None) or []
            return torch.tensor([token for token in given if token >= 0], dtype=torch.long, device=device)

        return cls(
            never=indices("suppress_tokens"),
            not_first=indices("begin_suppress_tokens"),
            timestamps=checkpoint.timestamps,
            no_timestamps_token=checkpoint.no_timestamps_token,
            end_token=checkpoint.end_token,
            latest_first_timestamp=getattr(generation, "max_initial_timestamp_index", None),
        )

    def restrict(self, logits: torch.Tensor, written: Sequence[int], *, with_timestamps: bool) -> None:
        """Rule tokens out, in place, for the one that follows `written`. `logits` are one row's."""
        if not written:
            logits[self.not_first] = _NEVER
        logits[self.never] = _NEVER
        if with_timestamps and self.timestamps is not None:
            self._restrict_timestamps(logits, written, self.timestamps.first)

    def _restrict_timestamps(self, logits: torch.Tensor, written: Sequence[int], first: int) -> None:
        logits[self.no_timestamps_token] = _NEVER
        after_time = bool(written) and written[-1] >= first
        pair = after_time and (len(written) < 2 or written[-2] >= first)
        if pair:
            logits[first:] = _NEVER
        elif after_time:
            logits[: self.end_token] = _NEVER
        last = next((token for token in reversed(written) if token >= first), None)
        if last is not None:
            # The time that ends a stretch may begin the next; no other is said twice.
            logits[first : last if after_time and not pair else last + 1] = _NEVER
        if not written:
            logits[:first] = _NEVER
            if self.latest_first_timestamp is not None:
                logits[first + self.latest_first_timestamp + 1 :] = _NEVER
        if logits[first:].logsumexp(0) > logits[:first].max():
            logits[:first] = _NEVER


def take(
    logits: torch.Tensor, temperatures: Sequence[float], draws: Sequence[torch.Generator]
) -> tuple[list[int], list[float]]:
    """A token for each row and the logarithm of its probability before the temperature.

    At temperature 0 the likeliest; above, one is drawn with the row's own generator (on the CPU), so that its
    neighbours do not matter.
    """
    chosen = logits.argmax(-1)
    for row, (temperature, draw) in enumerate(zip(temperatures, draws, strict=True)):
        if temperature > 0:
            odds = (logits[row] / temperature).softmax(-1).cpu()
            chosen[row] = torch.multinomial(odds, 1, generator=draw)[0]
    likelihood = logits.gather(-1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
    return chosen.tolist(), likelihood.tolist()
