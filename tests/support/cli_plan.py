"""Models and GPUs for the tests of `msp plan`, with the figures of real ones."""

from typing import Any

from msp_cli.plan.facts import ModelFacts
from msp_cli.plan.inventory import PlanGpu
from msp_cli.plan.model_config import read_config

QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
TINYLLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}
LLAVA: dict[str, Any] = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "text_config": {
        "model_type": "llama",
        "max_position_embeddings": 4096,
        "torch_dtype": "float16",
        "vocab_size": 32064,
    },
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024},
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}
MINILM: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "vocab_size": 30522,
}
WHISPER: dict[str, Any] = {
    "architectures": ["WhisperForConditionalGeneration"],
    "model_type": "whisper",
    "d_model": 512,
    "torch_dtype": "float32",
}

_PARAMETERS = {"qwen": 494_032_768, "tinyllama": 1_100_048_384, "llava": 7_063_427_072, "minilm": 22_713_216}


def facts(
    model_id: str,
    config: dict[str, Any],
    parameters: int | None,
    *,
    kind: str = "safetensors",
    stored: str | None = "F16",
    file_bytes: int | None = None,
) -> ModelFacts:
    """A model as its manifest and configuration tell of it."""
    return ModelFacts(
        id=model_id,
        revision="main",
        format=kind,
        parameters=parameters,
        weight_file_bytes=2 * (parameters or 0) if file_bytes is None else file_bytes,
        stored_dtype=stored,
        config=read_config(config),
    )


def qwen(model_id: str = "Qwen/Qwen2.5-0.5B-Instruct") -> ModelFacts:
    """Half a billion parameters, two heads for keys and values."""
    return facts(model_id, QWEN, _PARAMETERS["qwen"], stored="BF16")


def tinyllama() -> ModelFacts:
    """A billion parameters."""
    return facts("TinyLlama/TinyLlama-1.1B-Chat-v1.0", TINYLLAMA, _PARAMETERS["tinyllama"], stored="BF16")


def llava() -> ModelFacts:
    """Seven billion parameters; its configuration names none of the language model's sizes."""
    return facts("llava-hf/llava-1.5-7b-hf", LLAVA, _PARAMETERS["llava"])


def minilm() -> ModelFacts:
    """A sentence embedder."""
    return facts("sentence-transformers/all-MiniLM-L6-v2", MINILM, _PARAMETERS["minilm"], stored="F32")


def gpu(index: int, gib: float, *, used_gib: float = 0, name: str = "NVIDIA L4") -> PlanGpu:
    """A GPU of so much memory."""
    return PlanGpu(index, f"GPU-{index:04d}", name, int(gib * 2**30), int(used_gib * 2**30))
