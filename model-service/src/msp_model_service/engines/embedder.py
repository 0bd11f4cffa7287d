"""What an embedding engine can be asked."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msp_model_service.engines.lifecycle import Engine

TokenIds = Sequence[int]


@dataclass(frozen=True)
class EmbedderLimits:
    """What an input must keep to."""

    max_tokens: int
    """Of one input, with the special tokens and the prompt that the engine adds."""
    vocabulary: int
    """Token ids are below it."""


@dataclass(frozen=True)
class VectorForm:
    """What the vectors are like."""

    dimensions: int
    """Their length where a request asks for none."""
    sizes: Collection[int]
    """Lengths that may be asked for: shorter ones only where the model was trained for them."""
    unit: bool
    """Whether the model scales its vectors to length 1."""


class Embedder(Engine, Protocol):
    """Turns token ids into vectors.

    Tokenizing and embedding are two calls so that everything can be checked and counted before it is queued,
    and so that an engine may batch the inputs of several requests.
    """

    def limits(self) -> EmbedderLimits:
        """The loaded model's limits."""

    def form(self) -> VectorForm:
        """What the loaded model's vectors are like."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as the model will see it, never cut. Blocks; may be called by several threads."""

    def complete(self, ids: TokenIds) -> list[int]:
        """Ids that a client made itself, with the prompt and the special tokens that the model needs."""

    async def embed(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
        """One row per input, in the order given, as long as the largest of the form's sizes.

        The inputs are complete and within the limits. Raises TooManyRequests when too many requests wait.
        """
