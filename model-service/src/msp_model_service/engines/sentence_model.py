"""A sentence-transformers repository as a function from token ids to vectors."""

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from transformers.utils.logging import disable_progress_bar

from msp_model_service.engines.embedder import EmbedderLimits, TokenIds, VectorForm
from msp_model_service.engines.lifecycle import EngineLoadFailed
from msp_model_service.engines.precision import cpu_has_fast_bf16
from msp_model_service.engines.text_tokens import TextTokens

Pack = Callable[[torch.nn.Module], int]
"""Replaces layers of a network by faster ones that compute the same; how many were."""

# Of different lengths, so that together they are padded.
_PROBES = ("A short text.", "Two.")
_PROBE_AGREES = 0.999

log = logging.getLogger(__name__)


class SentenceModel:
    """The repository's own modules, pooling and prompt; normalisation in float32. For one thread."""

    def __init__(self, library: SentenceTransformer, tokens: TextTokens, form: VectorForm) -> None:
        self._library = library
        self._first, *self._rest = [module for module in library if not _is_last_normalize(library, module)]
        self._device: torch.device = library.device
        self._prompted = bool(_default_prompt(library))
        self.tokens = tokens
        self.form = form
        self.limits = EmbedderLimits(
            max_tokens=_context_length(library.max_seq_length, library.transformers_model.config),
            vocabulary=int(library.transformers_model.get_input_embeddings().num_embeddings),
        )

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, *, fast_bf16: Callable[[], bool] = cpu_has_fast_bf16
    ) -> "SentenceModel":
        """In the precision of the weights; a processor takes bfloat16 where it has it, else float32.

        Raises EngineLoadFailed if the library cannot load it, or it does not begin with a transformer.
        """
        disable_progress_bar()
        try:
            library = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": "auto"},
            ).eval()
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise EngineLoadFailed(
                f"{folder.name} cannot be loaded as a sentence-transformers model: {error}"
            ) from error
        if not isinstance(library[0], Transformer):
            raise EngineLoadFailed(
                f"{folder.name} begins with a {type(library[0]).__name__} module; only models that begin "
                "with a Transformer are served"
            )
        native = library.transformers_model.dtype is torch.bfloat16 and fast_bf16()
        if device.type == "cpu" and not native:
            library.float()
        return cls(library, TextTokens(library.tokenizer, _default_prompt(library)), _form(library))

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        dtype: torch.dtype = self._library.transformers_model.dtype
        return dtype

    @property
    def architecture(self) -> str:
        """The network's class."""
        return type(self._library.transformers_model).__name__

    @torch.inference_mode()
    def forward(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
        """One pass. Rows have the network's full width."""
        ids, mask = self.tokens.padded(inputs)
        features: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(self._device)}
        if mask is not None:
            features["attention_mask"] = torch.from_numpy(mask).to(self._device)
        features = self._first(features)
        # The network does without where nothing is padded; modules after it may not.
        features.setdefault("attention_mask", torch.ones_like(features["input_ids"]))
        if self._prompted:
            features["prompt_length"] = self.tokens.prompt_length
        for module in self._rest:
            features = module(features)
        output = features["sentence_embedding"].float()
        if self.form.unit:
            # In bfloat16 the library's own normalisation leaves norms off by 0.3 %.
            output = torch.nn.functional.normalize(output, dim=-1)
        vectors: NDArray[np.float32] = output.cpu().numpy()
        return vectors

    def check_against_the_library(self) -> None:
        """Raises EngineLoadFailed if texts, padded or alone, do not get the library's vectors."""
        vectors = self._library.encode(list(_PROBES), batch_size=1, show_progress_bar=False)
        alike = self._similarity(np.asarray(vectors, dtype=np.float32))
        # Written so that NaN, which a broken checkpoint yields, fails too.
        if not alike >= _PROBE_AGREES:
            raise EngineLoadFailed(
                "this model's texts need more preparation than its tokenizer does (similarity to the "
                f"library's own vectors is {alike:.4f}); it cannot be served by this engine"
            )

    def pack(self, pack: Pack) -> bool:
        """Lay out the weights for the processor. False if that spoilt it: the model is of no more use."""
        before = self.forward(self.tokens.tokenize(_PROBES))
        try:
            pack(self._library.transformers_model)
            alike = self._similarity(before)
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            log.warning("this model cannot compute with weights laid out for the processor: %s", error)
            return False
        if not alike >= _PROBE_AGREES:
            log.warning("weights laid out for the processor give other vectors (similarity %.4f)", alike)
            return False
        return True

    def _similarity(self, reference: NDArray[np.float32]) -> float:
        """The least, of vectors made together and alone."""
        ids = self.tokens.tokenize(_PROBES)
        together = self.forward(ids)
        alone = np.concatenate([self.forward([each]) for each in ids])
        width = reference.shape[1]
        return float(np.min([_least_similarity(own[:, :width], reference) for own in (together, alone)]))


def _least_similarity(own: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(reference, axis=1)
    return float(np.min((own * reference).sum(axis=1) / lengths))


def _is_last_normalize(library: SentenceTransformer, module: Any) -> bool:
    return module is library[-1] and isinstance(module, Normalize)


def _default_prompt(library: SentenceTransformer) -> str:
    return library.prompts.get(library.default_prompt_name or "", "") or ""


def _form(library: SentenceTransformer) -> VectorForm:
    default = int(library.get_embedding_dimension())
    with library.truncate_embeddings(None):
        full = int(library.get_embedding_dimension())
    return VectorForm(
        dimensions=default,
        sizes=_sizes(library.transformers_model.config, default, full),
        unit=isinstance(library[-1], Normalize),
    )


def _sizes(config: Any, default: int, full: int) -> Collection[int]:
    """What `dimensions` may be: shorter than full only where the model was trained for it.

    The two names are those that published models use and that other servers read.
    """
    if getattr(config, "is_matryoshka", False):
        return range(1, full + 1)
    declared = getattr(config, "matryoshka_dimensions", None) or ()
    return sorted({default, full, *(int(size) for size in declared if 0 < int(size) <= full)})


def _context_length(declared: int | None, config: Any) -> int:
    """The least of what the repository declares and the positions that the network has."""
    positions = getattr(config, "max_position_embeddings", None)
    known = [int(limit) for limit in (declared, positions) if limit]
    if not known:
        raise EngineLoadFailed("neither the repository nor the network says how long a text may be")
    return min(known)
