"""One request on its way through the batch."""

from dataclasses import dataclass, field
from typing import Protocol

import torch

from msp_common.errors import ApiError
from msp_model_service.engines.chat import TokenEvent
from msp_model_service.engines.slot.row_sampling import RowSampling
from msp_model_service.engines.token_events import TokenEvents


class Reader(Protocol):
    """Where a request's events go."""

    def put(self, event: TokenEvent) -> None:
        """The next event; none after one with `finish`."""

    def fail(self, error: ApiError) -> None:
        """The last thing told, where no event with `finish` came."""


class Images(Protocol):
    """The images of a prompt, turned into embeddings when they are first needed."""

    def embeddings(self) -> torch.Tensor:
        """Of the whole prompt, text included: [tokens, width]. Runs the model; engine's thread only."""


@dataclass(eq=False)
class Sequence:
    """A request, from the queue to its last event. Belongs to the engine's thread, but for `cancelled`."""

    key: int
    """Grows with arrival."""
    prompt: list[int]
    prompt_keys: list[int]
    """What the row remembers of the prompt: its ids, with image parts told apart by their pixels."""
    sampling: RowSampling
    events: TokenEvents
    reader: Reader
    accepted_at: float
    images: Images | None = None
    made: list[int] = field(default_factory=list)
    """Token ids of the answer so far."""
    row: int | None = None
    preempted: bool = False
    """Whether it had a row before: it then waits without a deadline."""
    cancelled: bool = False
    """Set from any thread: nobody reads the answer any more."""
    embedded: torch.Tensor | None = None

    @property
    def length(self) -> int:
        """Of prompt and answer."""
        return len(self.prompt) + len(self.made)

    def shows_images_from(self, start: int) -> bool:
        """Whether images are in the prompt at or behind `start`."""
        return self.prompt_keys[start:] != self.prompt[start:]

    def token_ids(self, start: int, stop: int) -> list[int]:
        """Of prompt and answer together."""
        return _cut(self.prompt, self.made, start, stop)

    def keys(self, start: int, stop: int) -> list[int]:
        """As `token_ids`, as the row remembers them."""
        return _cut(self.prompt_keys, self.made, start, stop)


def _cut(prompt: list[int], made: list[int], start: int, stop: int) -> list[int]:
    if stop <= len(prompt):
        return prompt[start:stop]
    return prompt[start:] + made[max(0, start - len(prompt)) : stop - len(prompt)]
