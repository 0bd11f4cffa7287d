"""An embedder without a model: deterministic, and texts that share words are near each other."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_model_service.engines.embedder import EmbedderLimits, TokenIds, VectorForm
from msp_model_service.engines.lifecycle import EngineOptions, OnPhase

_VOCABULARY = 30_000
_MAX_TOKENS = 512
_DIMENSIONS = 64
_START, _END = 0, 1


class FakeEmbedder:
    """Each word is a token, each token a random direction, each text the direction of its tokens' sum."""

    name = "fake"

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._loaded = False

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """Needs nothing from the folder."""
        on_phase("weights", 1.0)
        self._loaded = True

    def unload(self) -> None:
        """Nothing to free."""
        self._loaded = False

    def capabilities(self) -> Capabilities:
        """As a small embedding model's."""
        return Capabilities(
            paths=list(ModelType.EMBEDDING.paths),
            context_length=_MAX_TOKENS,
            dimensions=_DIMENSIONS,
            engine=self.name,
        )

    def load_now(self) -> WorkerLoad:
        """Never busy: an answer takes no time."""
        return WorkerLoad()

    def problem(self) -> str | None:
        """Nothing can break."""
        return None

    def limits(self) -> EmbedderLimits:
        """As a small embedding model's."""
        return EmbedderLimits(max_tokens=_MAX_TOKENS, vocabulary=_VOCABULARY)

    def form(self) -> VectorForm:
        """Unit vectors of one size."""
        return VectorForm(dimensions=_DIMENSIONS, sizes=(_DIMENSIONS,), unit=True)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """One token per word, between a start and an end."""
        return [self.complete([_id(word) for word in text.lower().split()]) for text in texts]

    def complete(self, ids: TokenIds) -> list[int]:
        """Adds start and end."""
        return [_START, *ids, _END]

    async def embed(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Unit vectors."""
        return np.stack([_direction(ids) for ids in inputs])


def _id(word: str) -> int:
    return 2 + zlib.crc32(word.encode()) % (_VOCABULARY - 2)


def _direction(ids: TokenIds) -> NDArray[np.float32]:
    # Start and end are the same in all texts: left out, they do not make strangers look alike.
    words = list(ids[1:-1]) or [_START]
    total = sum(np.random.default_rng(token).standard_normal(_DIMENSIONS) for token in words)
    vector = np.asarray(total, dtype=np.float32)
    return vector / np.float32(np.linalg.norm(vector))
