"""How much of a GPU a model takes, and what that leaves for requests. Pure.

The arithmetic is the worker's own: what its `slot` engine takes for keys and values is a fixed share of what
the weights leave (KV_MEMORY_FRACTION), and the rest is for what forward passes compute.
"""

from dataclasses import dataclass
from typing import Literal

from msp_cli.plan.facts import FactsMissing, ModelFacts
from msp_cli.plan.inventory import PlanGpu
from msp_common.contracts.model_type import ModelType

Quantization = Literal["none", "bnb-8bit", "bnb-4bit"]
QUANTIZATIONS: tuple[Quantization, ...] = ("none", "bnb-8bit", "bnb-4bit")

CUDA_CONTEXT_BYTES = 640 * 2**20
"""What a process holds on a GPU before it has any tensor: the context, and libraries' kernels and workspaces.
It does not count against GPU_MEMORY_FRACTION, which limits tensors alone."""

KV_SHARE = 0.8
"""The worker's default of KV_MEMORY_FRACTION on a GPU."""

GPU_MEMORY_FRACTION = 0.9
"""The worker's default."""

MAX_ROWS = 64
"""The worker's default of MAX_RUNNING on a GPU."""

PREFILL_TOKENS = 2048
"""The worker's default of PREFILL_TOKENS on a GPU: so many tokens are computed in one pass."""

GRAIN = 128
"""A row's capacity is a multiple of it."""

_WORKING_BYTES = {ModelType.EMBEDDING: 512 * 2**20, ModelType.TRANSCRIPTION: 1024 * 2**20}
"""What a batch of texts, or some windows of sound, take while they are computed."""

_LEAST_ACTIVATIONS = 64 * 2**20

_DTYPE_BYTES = {
    "float64": 8, "F64": 8, "float32": 4, "F32": 4, "float16": 2, "F16": 2, "half": 2,
    "bfloat16": 2, "BF16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "float8_e4m3fn": 1, "I8": 1, "U8": 1,
}  # fmt: skip

# bitsandbytes holds a scale beside the weights: one float32 for 64 weights in 4 bits, for each row in 8.
_BYTES_PER_WEIGHT = {"bnb-8bit": 1.01, "bnb-4bit": 0.5 + 4 / 64}


@dataclass(frozen=True)
class Need:
    """What one model takes of a GPU, in bytes."""

    weights: int
    activations: int
    """What a forward pass computes beside keys and values."""
    kv_per_token: int
    """0 for models that keep nothing between tokens, or of whose size nothing is known."""
    context: int
    """Tokens of one request, prompt and answer together, for which there must be room."""

    @property
    def row(self) -> int:
        """Keys and values of one request."""
        return grained(self.context) * self.kv_per_token

    def least(self, kv_share: float = KV_SHARE) -> int:
        """What must be usable so that one request of that length can be answered."""
        if not self.kv_per_token:
            return self.weights + self.activations
        return self.weights + int(max(self.row / kv_share, self.activations / (1 - kv_share)))


@dataclass(frozen=True)
class Room:
    """What a model that fits leaves for requests."""

    kv_bytes: int
    kv_tokens: int
    rows: int
    """Requests of the stated length at the same time; 0 where nothing is kept between tokens."""


def usable_bytes(gpu: PlanGpu, fraction: float) -> int:
    """What a worker's tensors may take of the GPU, with what others hold there now left alone."""
    return max(0, min(int(fraction * gpu.total_bytes), gpu.total_bytes - gpu.used_bytes - CUDA_CONTEXT_BYTES))


def need(
    facts: ModelFacts,
    model_type: ModelType,
    quantization: Quantization,
    context: int,
    *,
    prefill_tokens: int = PREFILL_TOKENS,
    max_rows: int = MAX_ROWS,
) -> Need:
    """What the model takes when it is loaded so. Raises FactsMissing."""
    weights = weight_bytes(facts, quantization)
    if not model_type.chats:
        return Need(weights, _WORKING_BYTES[model_type], 0, 0)
    longest = min(context, facts.config.context_length or context)
    activations = _activations(facts, prefill_tokens, max_rows)
    return Need(weights, activations, kv_bytes_per_token(facts), longest)


def room(need: Need, usable: int, kv_share: float = KV_SHARE, max_rows: int = MAX_ROWS) -> Room:
    """What is left for requests on a GPU with so many usable bytes."""
    if not need.kv_per_token:
        return Room(0, 0, 0)
    budget = int(kv_share * max(0, usable - need.weights))
    tokens = budget // need.kv_per_token
    return Room(budget, tokens, min(max_rows, tokens // grained(need.context)))


def weight_bytes(facts: ModelFacts, quantization: Quantization) -> int:
    """The weights in memory. Raises FactsMissing."""
    _check_loadable(facts, quantization)
    if facts.config.quantised_by:
        return facts.weight_file_bytes
    width = dtype_bytes(facts)
    if facts.parameters is None:
        # Pickled weights: no header tells their number, but the files hold little else.
        stored = facts.weight_file_bytes
        return stored if quantization == "none" else int(stored / width * _BYTES_PER_WEIGHT[quantization])
    full = facts.parameters * width
    # Experts that are held in one tensor are no linear layers, which alone bitsandbytes takes.
    if quantization == "none" or facts.config.has_experts:
        return full
    kept = min(facts.config.embedding_values, facts.parameters)
    return int(kept * width + (facts.parameters - kept) * _BYTES_PER_WEIGHT[quantization])


def kv_bytes_per_token(facts: ModelFacts) -> int:
    """Keys and values of one token, over all layers, in the weights' own type. Raises FactsMissing."""
    geometry = facts.config.geometry
    if geometry is None:
        raise FactsMissing(
            f"{facts.id}: its config.json names no layers, heads and width, so that the memory for keys and "
            "values cannot be worked out"
        )
    # Stored in few bits, the model still computes in 16.
    width = 2 if facts.config.quantised_by else dtype_bytes(facts)
    return geometry.attention_layers * geometry.kept_per_layer * width


def dtype_bytes(facts: ModelFacts) -> int:
    """The width of one weight as a worker loads it: what the configuration says, else what is stored."""
    for name in (facts.config.dtype, facts.stored_dtype):
        if name is not None and name in _DTYPE_BYTES:
            return _DTYPE_BYTES[name]
    raise FactsMissing(
        f"{facts.id}: neither its config.json nor the headers of its files tell the weights' type"
    )


def grained(tokens: int) -> int:
    """The smallest capacity of a row for so many tokens."""
    return -(-tokens // GRAIN) * GRAIN


def _activations(facts: ModelFacts, prefill_tokens: int, max_rows: int) -> int:
    """One pass over so many tokens: the widest layer's values, several times over, and scores in float32."""
    geometry = facts.config.geometry
    if geometry is None:
        return _LEAST_ACTIVATIONS
    values = prefill_tokens * (10 * geometry.hidden + 3 * geometry.intermediate) * 2
    scores = max_rows * geometry.vocabulary * 8
    return max(_LEAST_ACTIVATIONS, values + scores)


def _check_loadable(facts: ModelFacts, quantization: Quantization) -> None:
    if facts.format == "gguf":
        raise FactsMissing(
            f"{facts.id} is stored as GGUF, which an external server serves (ENGINE=openai), not the "
            "platform's own engines; it cannot be planned"
        )
    if facts.config.quantised_by and quantization != "none":
        raise FactsMissing(
            f"{facts.id} is stored in few bits already ({facts.config.quantised_by}); leave "
            f"--quantization {facts.id}={quantization}, or QUANTIZATION in .env, away"
        )
    if not facts.weight_file_bytes:
        raise FactsMissing(f"{facts.id} has no file of weights")
