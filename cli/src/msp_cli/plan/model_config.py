"""What a model's `config.json` tells of the memory that it will need. Pure.

Configurations are written by many hands: names differ, and what is an architecture's default is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msp_common.contracts.model_type import ModelType

Config = Mapping[str, Any]

_NAMES = {
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "encoder_ffn_dim"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "max_target_positions"),
}

# Only what is seen in the wild with parts left out: LLaVA 1.5 names no size of its language model.
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "llama": {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "vocab_size": 32000,
    },
    "mistral": {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "vocab_size": 32000,
    },
    "qwen2": {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "vocab_size": 151936,
    },
}
_PICTURES = ("vision_config", "vision_tower", "mm_vision_tower")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_ATTENDING = frozenset({"full_attention", "sliding_attention", "chunked_attention", "attention"})


@dataclass(frozen=True)
class Geometry:
    """The sizes of a language model that its memory depends on."""

    attention_layers: int
    """Layers that keep keys and values."""
    kept_per_layer: int
    """Numbers that one such layer keeps of one token: keys and values of all heads."""
    hidden: int
    intermediate: int
    vocabulary: int


@dataclass(frozen=True)
class ConfigFacts:
    """What one `config.json` says."""

    architectures: tuple[str, ...] = ()
    type: ModelType | None = None
    """As guessed from the architecture; None where it fits no engine of the platform."""
    geometry: Geometry | None = None
    dtype: str | None = None
    """What the weights are loaded as on a GPU, such as `bfloat16`."""
    context_length: int | None = None
    embedding_values: int = 0
    """Numbers in the tables of the vocabulary, which stay in full when a model is loaded in few bits."""
    has_experts: bool = False
    quantised_by: str | None = None
    """The method by which the weights are stored in few bits already."""


def read_config(config: Config, *, sentence_transformer: bool = False) -> ConfigFacts:
    """The facts; `sentence_transformer` says that the snapshot has a `modules.json`."""
    text = _text_part(config)
    architectures = tuple(str(name) for name in config.get("architectures") or ())
    geometry = _geometry(text)
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", _tied_by_default(text)))
    stored = config.get("quantization_config") or text.get("quantization_config")
    dtype = next(
        (part[name] for part in (config, text) for name in ("dtype", "torch_dtype") if part.get(name)), None
    )
    return ConfigFacts(
        architectures=architectures,
        type=_type(config, architectures, sentence_transformer),
        geometry=geometry,
        dtype=str(dtype).removeprefix("torch.") if dtype else None,
        context_length=_number(text, "max_position_embeddings"),
        embedding_values=geometry.vocabulary * geometry.hidden * (1 if tied else 2) if geometry else 0,
        has_experts=any(_number(text, name) for name in _EXPERTS),
        quantised_by=_method(stored) if stored else None,
    )


def _text_part(config: Config) -> Config:
    for name in ("text_config", "llm_config", "language_config"):
        part = config.get(name)
        if isinstance(part, Mapping):
            thinker: Config = part
            return thinker
    return config


def _type(config: Config, architectures: Sequence[str], sentence_transformer: bool) -> ModelType | None:
    names = " ".join(architectures)
    if "Whisper" in names:
        return ModelType.TRANSCRIPTION
    if any(config.get(name) for name in _PICTURES) and "For" in names:
        return ModelType.MULTIMODAL
    if sentence_transformer:
        return ModelType.EMBEDDING
    if names.endswith(("ForCausalLM", "LMHeadModel")):
        return ModelType.LLM
    # Encoders without a head: a bare one is made a sentence embedder by pooling.
    return ModelType.EMBEDDING if names.endswith("Model") else None


def _geometry(text: Config) -> Geometry | None:
    layers = _number(text, "num_hidden_layers")
    heads = _number(text, "num_attention_heads")
    hidden = _number(text, "hidden_size")
    if layers is None or heads is None or hidden is None:
        return None
    return Geometry(
        attention_layers=_attending(text, layers),
        kept_per_layer=_kept(text, heads, hidden),
        hidden=hidden,
        intermediate=_number(text, "intermediate_size") or 4 * hidden,
        vocabulary=_number(text, "vocab_size") or 0,
    )


def _attending(text: Config, layers: int) -> int:
    """Layers with attention; those that share another one's keys and values keep none of their own."""
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and kinds:
        layers = sum(kind in _ATTENDING for kind in kinds)
    return max(0, layers - (_number(text, "num_kv_shared_layers") or 0))


def _kept(text: Config, heads: int, hidden: int) -> int:
    rope, plain = _number(text, "qk_rope_head_dim"), _number(text, "qk_nope_head_dim")
    value = _number(text, "v_head_dim")
    if rope is not None and plain is not None and value is not None:
        # Multi-head latent attention: the engine keeps the keys and values that it unfolds to.
        return heads * (rope + plain + value)
    kv_heads = _number(text, "num_key_value_heads") or (1 if text.get("multi_query") else heads)
    return 2 * kv_heads * (_number(text, "head_dim") or hidden // heads)


def _number(text: Config, name: str) -> int | None:
    for spelling in _NAMES.get(name, (name,)):
        value = text.get(spelling)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return _DEFAULTS.get(str(text.get("model_type")), {}).get(name)


def _tied_by_default(text: Config) -> bool:
    """Transformers ties input and output tables unless told otherwise; the Llama family does not."""
    return str(text.get("model_type")) not in _DEFAULTS


def _method(stored: Any) -> str:
    if not isinstance(stored, Mapping):
        return "unknown"
    if stored.get("load_in_4bit") or stored.get("load_in_8bit"):
        return "bitsandbytes"
    return str(stored.get("quant_method") or "unknown")
