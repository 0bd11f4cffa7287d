"""Which architectures are served, by what: the table of the tests and of `docs/models.md`.

Nothing heavy is imported here. A name is that of a family in transformers, with what is special behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}

SERVED: Mapping[str, Mapping[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen2 sliding": {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": None},
    "Mistral sliding": {"sliding_window": 24},
    "Ministral": {"sliding_window": 24, "head_dim": 16},
    "Phi": {},
    "Phi3": {},
    "Phi3 sliding": {"sliding_window": 24},
    "Gemma": {"head_dim": 16},
    "Gemma2": {"head_dim": 16, "sliding_window": 24},
    "Gemma3Text": {"head_dim": 16, "sliding_window": 24},
    "Olmo": {},
    "Olmo2": {},
    "Olmo3": {"sliding_window": 24},
    "SmolLM3": {},
    "Granite": {},
    "Cohere": {},
    "Cohere2": {"sliding_window": 24, "head_dim": 16},
    "StableLm": {},
    "Starcoder2": {"sliding_window": None},
    "Glm": {"head_dim": 16},
    "Glm4": {"head_dim": 16},
    "Helium": {"head_dim": 16},
    "Nemotron": {},
    "Ernie4_5": {},
    "GPTNeoX": {},
    "GPT2": {},
    "GPTJ": {"rotary_dim": 8, "n_inner": 128},
    "GPTBigCode": {},
    "OPT": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "Falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "Mixtral": {"num_local_experts": 4, "sliding_window": None},
    "Qwen2Moe": {"num_experts": 4, "shared_expert_intermediate_size": 32, **_EXPERTS},
    "Qwen3Moe": {"num_experts": 4, "head_dim": 16, **_EXPERTS},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 24},
}
"""Architectures whose tokens in a batch are those of `generate`, with what their configuration needs."""


@dataclass(frozen=True)
class Left:
    """An architecture that is left to `generate`."""

    why: str
    """As the worker tells it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What its configuration needs."""


_ALIBI = "its positions are ALiBi biases, which explicit masks cannot carry"
_STATES = (
    "it has layers of the kind LinearAttentionLayer, linear_attention, whose memory is no row of keys "
    "and values"
)
LEFT: Mapping[str, Left] = {
    "Mamba": Left(_STATES),
    "Mamba2": Left(_STATES, {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 16}),
    "Bloom": Left(_ALIBI),
    "Falcon alibi": Left(_ALIBI, {"alibi": True}),
    "Mpt": Left(_ALIBI, {"d_model": 64, "n_heads": 4, "n_layers": 2}),
    "RecurrentGemma": Left(_STATES, {"head_dim": 16, "lru_width": 64, "num_key_value_heads": 1}),
}
"""Architectures that answer one request at a time."""

OTHERS: Mapping[str, str] = {
    "multimodal": "LlavaForConditionalGeneration",
    "embedding": "BertModel",
    "transcription": "WhisperForConditionalGeneration",
}
"""Of the other types, those that are loaded in every test run; their engines load others in the same way."""


def class_of(name: str) -> str:
    """The class in transformers."""
    family = name.split()[0]
    return "GPT2LMHeadModel" if family == "GPT2" else f"{family.removesuffix('Text')}ForCausalLM"
