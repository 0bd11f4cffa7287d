"""One request on its way through the batch."""

import logging
from dataclasses import dataclass, field
from typing import Protocol

import torch

from msp_common.errors import ApiError
from msp_model_service.engines.chat import TokenEvent, Usage
from msp_model_service.engines.prompt_scores import PromptScores
from msp_model_service.engines.slot.row_sampling import RowSampling
from msp_model_service.engines.slot.told_errors import told_as
from msp_model_service.engines.token_events import TokenEvents

log = logging.getLogger(__name__)


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
    max_tokens: int
    """Of the answer; 0 where the prompt is only to be scored."""
    images: Images | None = None
    scores: PromptScores | None = None
    """Where the prompt's own tokens are to be scored."""
    begun: tuple[int, ...] = ()
    """Token ids of the answer that another replica made, until they are taken over."""
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

    def take_over(self) -> bool:
        """Take what was begun elsewhere for its own and tell it; False if there is nothing more to make.

        What the row's sampling or its events raise over it ends the request.
        """
        begun, self.begun = self.begun, ()
        try:
            for token_id in begun:
                self.sampling.replay(token_id)
                self.made.append(token_id)
                event = self.events.feed(token_id)
                self.reader.put(event)
                if event.finish is not None:
                    return False
        except Exception as error:
            log.error("what was begun elsewhere cannot be gone on with", exc_info=error)
            self.reader.fail(told_as(error))
            return False
        return True

    def told_without_answer(self) -> TokenEvent:
        """The only event of a request that is to have no answer."""
        scores = tuple(self.scores.tokens) if self.scores is not None else ()
        return TokenEvent(finish="length", usage=Usage(len(self.prompt), 0), prompt_tokens=scores)

    @property
    def to_be_scored(self) -> bool:
        """Whether tokens of the prompt still want their scores."""
        return self.scores is not None and not self.scores.complete

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
