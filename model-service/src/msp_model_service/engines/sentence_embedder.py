"""Embeddings by a sentence-transformers model: the repository's own pooling, prompt and normalisation."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from transformers.utils.logging import disable_progress_bar

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_model_service.engines import torch_device
from msp_model_service.engines.embedder import EmbedderLimits, TokenIds
from msp_model_service.engines.engine_thread import EngineThread, Job
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions, OnPhase

PADDED_TOKENS_CPU = 512
PADDED_TOKENS_GPU = 16_384
"""Tokens of one forward pass, padding included. A processor gains nothing from wider batches of long texts
and loses its caches; a GPU wants them wide."""

_PROBE = "A short text."
_PROBE_AGREES = 0.999

log = logging.getLogger(__name__)


class SentenceEmbedder:
    """One loaded model and one thread for it. Requests are answered in the order of their arrival."""

    name = "sentence-transformers"

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._thread = EngineThread("embedder", options.max_queued, broken_by=(torch.AcceleratorError,))
        self._model: Any = None
        self._tokenizer: Any = None
        self._limits = EmbedderLimits(max_tokens=0, vocabulary=0)
        self._dimensions = 0
        self._normalises = False
        self._budget = PADDED_TOKENS_CPU
        self._prompt = ""
        self._prefix: list[int] = []
        self._suffix: list[int] = []

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """Load and compare one sentence with what sentence-transformers itself makes of it."""
        on_phase("weights", None)
        disable_progress_bar()
        device, dtype = torch_device.prepare(self._options)
        try:
            self._model = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": dtype},
            ).eval()
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise EngineLoadFailed(
                f"{folder.name} cannot be loaded as a sentence-transformers model: {error}"
            ) from error
        self._budget = PADDED_TOKENS_CPU if device.type == "cpu" else PADDED_TOKENS_GPU
        self._read_properties(folder)
        on_phase("warm-up", None)
        self._check_against_the_library()
        self._thread.start()

    def unload(self) -> None:
        """End all work and drop the weights."""
        self._thread.stop()
        self._model = self._tokenizer = None

    def capabilities(self) -> Capabilities:
        """What the repository's configuration says."""
        return Capabilities(
            paths=list(ModelType.EMBEDDING.paths),
            context_length=self._limits.max_tokens,
            dimensions=self._dimensions,
            engine=self.name,
        )

    def load_now(self) -> WorkerLoad:
        """How busy the thread is."""
        return self._thread.load_now()

    def problem(self) -> str | None:
        """What broke, if the thread's work fails again and again."""
        return self._thread.problem()

    def limits(self) -> EmbedderLimits:
        """The model's context and vocabulary."""
        return self._limits

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with the repository's default prompt and special tokens; nothing is cut."""
        encoded = self._tokenizer(
            [self._prompt + text for text in texts], truncation=False, padding=False, verbose=False
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def complete(self, ids: TokenIds) -> list[int]:
        """Adds what the tokenizer adds to a text, unless it is there already."""
        begin, end = len(self._prefix), len(self._suffix)
        whole = len(ids) >= begin + end and (begin or end)
        if whole and list(ids[:begin]) == self._prefix and list(ids[len(ids) - end :]) == self._suffix:
            return list(ids)
        return [*self._prefix, *ids, *self._suffix]

    async def embed(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
        """Rows in the order given; see Embedder."""
        return await self._thread.run(partial(self._embed, inputs))

    def _embed(self, inputs: Sequence[TokenIds], job: Job[NDArray[np.float32]]) -> NDArray[np.float32]:
        vectors = np.empty((len(inputs), self._dimensions), dtype=np.float32)
        for batch in batches([len(ids) for ids in inputs], self._budget):
            job.step()
            vectors[batch] = self._forward([inputs[index] for index in batch])
        return vectors

    @torch.inference_mode()
    def _forward(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
        features = self._tokenizer.pad(
            {"input_ids": [list(ids) for ids in inputs]}, padding=True, return_tensors="pt"
        )
        on_device: dict[str, Any] = {key: value.to(self._model.device) for key, value in features.items()}
        if self._prompt:
            on_device["prompt_length"] = self._prompt_length()
        output = self._model(on_device)["sentence_embedding"].float()
        if self._normalises:
            # The model's own normalisation may have run in bfloat16, which leaves norms off by 0.3 %.
            output = torch.nn.functional.normalize(output, dim=-1)
        vectors: NDArray[np.float32] = output.cpu().numpy()
        return vectors

    def _read_properties(self, folder: Path) -> None:
        first = self._model[0]
        if not isinstance(first, Transformer):
            raise EngineLoadFailed(
                f"{folder.name} begins with a {type(first).__name__} module; only models that begin with a "
                "Transformer are served"
            )
        self._tokenizer = self._model.tokenizer
        network = self._model.transformers_model
        self._dimensions = int(self._model.get_embedding_dimension())
        self._normalises = any(isinstance(module, Normalize) for module in self._model)
        self._limits = EmbedderLimits(
            max_tokens=_context_length(self._model.max_seq_length, network.config),
            vocabulary=int(network.get_input_embeddings().num_embeddings),
        )
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "", "") or ""
        plain: list[int] = self._tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        prompt: list[int] = self._tokenizer(self._prompt, add_special_tokens=False)["input_ids"]
        before, self._suffix = around(self._tokenizer(_PROBE)["input_ids"], plain)
        self._prefix = [*before, *prompt]

    def _prompt_length(self) -> int:
        """Tokens that pooling leaves out where the repository says so."""
        return len(self._prefix)

    def _check_against_the_library(self) -> None:
        own = self._forward(self.tokenize([_PROBE]))[0]
        reference = np.asarray(
            self._model.encode(_PROBE, convert_to_numpy=True, show_progress_bar=False), dtype=np.float32
        )
        alike = float(own @ reference / (np.linalg.norm(own) * np.linalg.norm(reference)))
        # Written so that NaN, which a broken checkpoint yields, fails too.
        if not alike >= _PROBE_AGREES:
            raise EngineLoadFailed(
                f"this model's texts need more preparation than its tokenizer does (similarity to the "
                f"library's own vector is {alike:.4f}); it cannot be served by this engine"
            )


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of inputs that go through the model together: alike in length, within `budget` padded tokens.

    An input longer than the budget goes alone.
    """
    cuts: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        # Sorted: the newest is the longest, and all are padded to it.
        if cuts and lengths[index] * (len(cuts[-1]) + 1) <= budget:
            cuts[-1].append(index)
        else:
            cuts.append([index])
    return cuts


def around(whole: Sequence[int], inner: Sequence[int]) -> tuple[list[int], list[int]]:
    """What stands before and after `inner` within `whole`: the special tokens that a tokenizer adds."""
    size = len(inner)
    for begin in range(len(whole) - size + 1):
        if list(whole[begin : begin + size]) == list(inner):
            return list(whole[:begin]), list(whole[begin + size :])
    raise EngineLoadFailed("the tokenizer changes a text's tokens when it adds the special ones")


def _context_length(declared: int | None, config: Any) -> int:
    """The least of what the repository declares and the positions that the network has."""
    positions = getattr(config, "max_position_embeddings", None)
    known = [int(limit) for limit in (declared, positions) if limit]
    if not known:
        raise EngineLoadFailed("neither the repository nor the network says how long a text may be")
    return min(known)
