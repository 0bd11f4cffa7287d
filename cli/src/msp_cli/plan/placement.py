"""Which model goes on which GPU. Pure.

One model for each GPU. The model that needs most chooses first, and takes the smallest GPU that holds it.
Since a GPU that holds one model holds every smaller one too, all models are placed whenever that is possible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from msp_cli.plan.facts import FactsMissing, ModelFacts
from msp_cli.plan.inventory import PlanGpu
from msp_cli.plan.memory import (
    CUDA_CONTEXT_BYTES,
    GPU_MEMORY_FRACTION,
    KV_SHARE,
    MAX_ROWS,
    PREFILL_TOKENS,
    QUANTIZATIONS,
    Need,
    Quantization,
    Room,
    need,
    room,
    usable_bytes,
)
from msp_common.contracts.model_type import ModelType


@dataclass(frozen=True)
class Rules:
    """How workers use a GPU, and for how long requests there must be room."""

    context: int
    fraction: float = GPU_MEMORY_FRACTION
    kv_share: float = KV_SHARE
    max_rows: int = MAX_ROWS
    prefill_tokens: int = PREFILL_TOKENS


@dataclass(frozen=True)
class Wanted:
    """One worker that is asked for."""

    service: str
    facts: ModelFacts
    type: ModelType
    quantization: Quantization = "none"
    pin: str | None = None
    """The GPU that the operator chose, by index or UUID."""


@dataclass(frozen=True)
class Placed:
    """A worker that has a GPU."""

    wanted: Wanted
    gpu: PlanGpu
    need: Need
    room: Room
    usable: int


@dataclass(frozen=True)
class Refused:
    """A worker that has none, why, and what would help."""

    wanted: Wanted
    why: str
    options: tuple[str, ...] = ()
    needs: int | None = None
    """Bytes of a GPU that it would have to have to itself; None where that cannot be worked out."""


@dataclass(frozen=True)
class Plan:
    """What became of all that was asked for, in its order."""

    placed: tuple[Placed, ...]
    refused: tuple[Refused, ...]
    free: tuple[PlanGpu, ...]


Sized = tuple[Wanted, Need]


def place(wanted: Sequence[Wanted], gpus: Sequence[PlanGpu], rules: Rules) -> Plan:
    """A GPU for each, as far as there are any that hold them."""
    sized: list[Sized] = []
    refused: list[Refused] = []
    for one in wanted:
        try:
            sized.append((one, _need(one, rules)))
        except FactsMissing as error:
            refused.append(Refused(one, str(error)))
    placed: dict[str, Placed] = {}
    free = list(gpus)
    biggest_first = sorted(sized, key=lambda s: s[1].least(rules.kv_share), reverse=True)
    for one, its_need in sorted(biggest_first, key=lambda s: s[0].pin is None):
        choice = _choose(one, its_need, free, gpus, placed, rules)
        if isinstance(choice, Refused):
            refused.append(choice)
        else:
            free.remove(choice)
            usable = usable_bytes(choice, rules.fraction)
            placed[one.service] = Placed(
                one, choice, its_need, room(its_need, usable, rules.kv_share, rules.max_rows), usable
            )
    order = [one.service for one in wanted]
    return Plan(
        tuple(sorted(placed.values(), key=lambda p: order.index(p.wanted.service))),
        tuple(sorted(refused, key=lambda r: order.index(r.wanted.service))),
        tuple(free),
    )


def _choose(
    one: Wanted,
    its_need: Need,
    free: Sequence[PlanGpu],
    gpus: Sequence[PlanGpu],
    placed: dict[str, Placed],
    rules: Rules,
) -> PlanGpu | Refused:
    least = its_need.least(rules.kv_share)

    def usable(gpu: PlanGpu) -> int:
        return usable_bytes(gpu, rules.fraction)

    candidates = free
    if one.pin is not None:
        named = [gpu for gpu in gpus if gpu.is_called(one.pin)]
        if not named:
            there = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus)
            why = f"it is pinned to the GPU {one.pin}, which is not there; there are {there}"
            return Refused(one, why, ("choose another GPU with --pin", "--repin"), least)
        candidates = [gpu for gpu in named if gpu in free]
        if not candidates:
            holder = next(p.wanted for p in placed.values() if p.gpu == named[0])
            why = f"it is pinned to the GPU {one.pin}, where {holder.service} ({holder.facts.id}) is already"
            return Refused(one, why, ("choose another GPU with --pin", "--repin"), least)
    fitting = [gpu for gpu in candidates if usable(gpu) >= least]
    if fitting:
        return min(fitting, key=lambda gpu: (usable(gpu), gpu.index))
    return Refused(
        one, _too_big(its_need, candidates, usable, rules), _options(one, candidates, rules), least
    )


def _too_big(
    its_need: Need, candidates: Sequence[PlanGpu], usable: Callable[[PlanGpu], int], rules: Rules
) -> str:
    least = its_need.least(rules.kv_share)
    if not candidates:
        return f"needs {gib(least)}, and every GPU has a model already: a worker has one to itself"
    largest = max(candidates, key=usable)
    taken = f", {gib(largest.used_bytes)} used by others" if largest.used_bytes > CUDA_CONTEXT_BYTES else ""
    parts = f"weights {gib(its_need.weights)}"
    if its_need.kv_per_token:
        parts += (
            f", one request of {its_need.context:,} tokens {gib(its_need.row)}"
            f" at {its_need.kv_per_token / 1024:g} KiB per token"
        )
    parts += f", computing {gib(its_need.activations)}"
    return (
        f"needs {gib(least)} ({parts}), the largest free GPU has {gib(usable(largest))} to use "
        f"({largest.index}: {largest.name}, {gib(largest.total_bytes)}{taken})"
    )


def _options(one: Wanted, candidates: Sequence[PlanGpu], rules: Rules) -> tuple[str, ...]:
    """What would need less, with what it needs; none that would still be too big."""
    limit = max((usable_bytes(gpu, rules.fraction) for gpu in candidates), default=0)
    found: list[str] = []
    for quantization in QUANTIZATIONS[1:] if one.type.chats and one.quantization == "none" else ():
        least = _least_if(replace(one, quantization=quantization), rules)
        if least is not None and least <= limit:
            found.append(
                f"--quantization {one.facts.id}={quantization} needs {gib(least)} "
                "(the worker's image must have bitsandbytes)"
            )
    for context in (length for length in (8192, 4096, 2048, 1024) if length < rules.context):
        least = _least_if(one, replace(rules, context=context))
        if least is not None and least <= limit:
            found.append(f"--context {context} needs {gib(least)}")
            break
    if not candidates:
        found.append("leave a model away, or add a GPU")
    elif not found:
        found.append("a larger GPU, a smaller model, or several GPUs with vLLM (ENGINE=openai)")
    return tuple(found)


def _need(one: Wanted, rules: Rules) -> Need:
    return need(
        one.facts,
        one.type,
        one.quantization,
        rules.context,
        prefill_tokens=rules.prefill_tokens,
        max_rows=rules.max_rows,
    )


def _least_if(one: Wanted, rules: Rules) -> int | None:
    try:
        return _need(one, rules).least(rules.kv_share)
    except FactsMissing:
        return None


def gib(size: int) -> str:
    """A size as people compare it with a GPU's: binary, one decimal; what is small in MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"
