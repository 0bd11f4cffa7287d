"""Embeddings by a sentence-transformers model, the inputs of concurrent requests batched together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_common.errors import Unavailable
from msp_model_service.engines import packed_linear, torch_device
from msp_model_service.engines.batch_cutting import PassBudget
from msp_model_service.engines.embedder import EmbedderLimits, TokenIds, VectorForm
from msp_model_service.engines.lifecycle import EngineOptions, OnPhase
from msp_model_service.engines.micro_batcher import MicroBatcher
from msp_model_service.engines.model_facts import ModelFacts
from msp_model_service.engines.sentence_model import Pack, SentenceModel

# A processor gains nothing from wider batches of long texts and loses its caches. A GPU wants them wide, and
# waits for the launch of each operation longer than for a few thousand tokens more.
CPU_BUDGET = PassBudget(padded_tokens=512, pass_tokens=24)
GPU_BUDGET = PassBudget(padded_tokens=16_384, pass_tokens=4096)


class SentenceEmbedder:
    """One loaded model and the batcher before it."""

    name = "sentence-transformers"

    def __init__(self, options: EngineOptions, *, pack: Pack = packed_linear.pack) -> None:
        self._options = options
        self._pack = pack
        self._model: SentenceModel | None = None
        self._batcher: MicroBatcher | None = None

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """Load, and compare a few vectors with what sentence-transformers itself makes of the texts."""
        on_phase("weights", None)
        device, _ = torch_device.prepare(self._options)
        model = SentenceModel.load(folder, device)
        on_phase("warm-up", None)
        model.check_against_the_library()
        if device.type == "cpu" and not model.pack(self._pack):
            model = SentenceModel.load(folder, device)
        self._model = model
        self._batcher = MicroBatcher(
            "embedder",
            model.forward,
            CPU_BUDGET if device.type == "cpu" else GPU_BUDGET,
            self._options.max_queued,
            broken_by=(torch.AcceleratorError,),
        )
        self._batcher.start()

    def unload(self) -> None:
        """End all work and drop the weights."""
        if self._batcher is not None:
            self._batcher.stop()
        self._model = self._batcher = None
        torch_device.release()

    def capabilities(self) -> Capabilities:
        """What the repository's configuration says."""
        model = self._loaded()
        return Capabilities(
            paths=list(ModelType.EMBEDDING.paths),
            context_length=model.limits.max_tokens,
            dimensions=model.form.dimensions,
            engine=self.name,
        )

    def load_now(self) -> WorkerLoad:
        """How much is batched and waits."""
        return self._batcher.load_now() if self._batcher is not None else WorkerLoad()

    def problem(self) -> str | None:
        """What broke, if passes fail again and again."""
        return self._batcher.problem() if self._batcher is not None else None

    def model_facts(self) -> ModelFacts:
        """See TellsModelFacts."""
        model = self._loaded()
        return ModelFacts(
            architecture=model.architecture,
            dtype=str(model.dtype).removeprefix("torch."),
            shortens=any(size < model.form.dimensions for size in model.form.sizes),
        )

    def limits(self) -> EmbedderLimits:
        """The model's context and vocabulary."""
        return self._loaded().limits

    def form(self) -> VectorForm:
        """What the repository's configuration says of its vectors."""
        return self._loaded().form

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with the repository's default prompt and special tokens; nothing is cut."""
        return self._loaded().tokens.tokenize(texts)

    def complete(self, ids: TokenIds) -> list[int]:
        """Adds what the tokenizer adds to a text, unless it is there already."""
        return self._loaded().tokens.complete(ids)

    async def embed(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Rows in the order given; see Embedder. The same, to 1e-5, alone and in a batch (float32)."""
        if self._batcher is None:
            raise _not_loaded()
        return await self._batcher.embed(inputs)

    def _loaded(self) -> SentenceModel:
        if self._model is None:
            raise _not_loaded()
        return self._model


def _not_loaded() -> Unavailable:
    return Unavailable("The model is not loaded; ask again for another worker.", retry_after_s=1)
