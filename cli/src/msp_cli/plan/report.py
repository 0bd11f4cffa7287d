"""What `msp plan` says: a table for people, JSON for programs."""

from pydantic import BaseModel
from rich.table import Table

from msp_cli.plan.placement import Placed, Plan, Refused, gib
from msp_cli.tables import cells, table


class PlannedWorker(BaseModel):
    """One worker that has a GPU."""

    service: str
    model: str
    revision: str
    type: str
    quantization: str
    gpu_index: int
    gpu_uuid: str
    gpu_name: str
    usable_bytes: int
    weights_bytes: int
    activations_bytes: int
    kv_bytes_per_token: int
    kv_budget_bytes: int
    kv_tokens: int
    context: int
    concurrent_requests: int | None
    """Requests of `context` tokens at the same time; null for models that keep nothing between tokens."""
    notes: list[str]


class RefusedWorker(BaseModel):
    """One worker that has no GPU."""

    service: str
    model: str
    needs_bytes: int | None
    why: str
    options: list[str]


class PlanAnswer(BaseModel):
    """What `--json` prints."""

    workers: list[PlannedWorker]
    refused: list[RefusedWorker]
    free_gpus: list[str]
    notes: list[str]


def answer(plan: Plan, notes: list[str]) -> PlanAnswer:
    """The plan for programs."""
    return PlanAnswer(
        workers=[_worker(placed) for placed in plan.placed],
        refused=[_refused(refused) for refused in plan.refused],
        free_gpus=[gpu.uuid for gpu in plan.free],
        notes=notes,
    )


def shown(plan: Plan) -> Table:
    """The placed workers, for people."""
    made = table("service", "model", "GPU", "to use", "weights", "KV/token", "KV budget", "at once")
    for placed in plan.placed:
        chats = placed.need.kv_per_token > 0
        kind = f" {placed.wanted.quantization}" if placed.wanted.quantization != "none" else ""
        made.add_row(
            *cells(
                placed.wanted.service,
                placed.wanted.facts.id + kind,
                f"{placed.gpu.index}: {placed.gpu.name}",
                gib(placed.usable),
                gib(placed.need.weights),
                f"{placed.need.kv_per_token / 1024:g} KiB" if chats else "-",
                f"{gib(placed.room.kv_bytes)}, {placed.room.kv_tokens:,} tokens" if chats else "-",
                f"{placed.room.rows} x {placed.need.context:,} tokens" if chats else "-",
            )
        )
    return made


def refusal_text(refused: Refused) -> str:
    """Why a model has no GPU, and what would help."""
    text = f"{refused.wanted.service}: {refused.wanted.facts.id}: {refused.why}"
    return text + "".join(f"\n    option: {option}" for option in refused.options)


def notes_of(placed: Placed) -> list[str]:
    """What an operator should know of a placed worker besides its figures."""
    facts, found = placed.wanted.facts, []
    if facts.requires_remote_code:
        found.append("it wants to run program files of its own, which workers refuse")
    if facts.bad_files:
        found.append(f"{facts.bad_files} of its files are damaged in the store: msp models verify {facts.id}")
    if facts.parameters is None and facts.format == "pickle":
        found.append("its weights are pickled: their size in memory is taken from the files' sizes")
    if facts.config.has_experts and placed.wanted.quantization != "none":
        found.append("bitsandbytes may not reach its experts: they are counted in full")
    longest = facts.config.context_length or 0
    if 0 < placed.room.kv_tokens < longest:
        found.append(f"its context of {longest:,} tokens is cut to {placed.room.kv_tokens:,}")
    return [f"{placed.wanted.service}: {facts.id}: {text}" for text in found]


def _worker(placed: Placed) -> PlannedWorker:
    wanted, chats = placed.wanted, placed.need.kv_per_token > 0
    return PlannedWorker(
        service=wanted.service,
        model=wanted.facts.id,
        revision=wanted.facts.revision,
        type=wanted.type.value,
        quantization=wanted.quantization,
        gpu_index=placed.gpu.index,
        gpu_uuid=placed.gpu.uuid,
        gpu_name=placed.gpu.name,
        usable_bytes=placed.usable,
        weights_bytes=placed.need.weights,
        activations_bytes=placed.need.activations,
        kv_bytes_per_token=placed.need.kv_per_token,
        kv_budget_bytes=placed.room.kv_bytes,
        kv_tokens=placed.room.kv_tokens,
        context=placed.need.context,
        concurrent_requests=placed.room.rows if chats else None,
        notes=notes_of(placed),
    )


def _refused(refused: Refused) -> RefusedWorker:
    return RefusedWorker(
        service=refused.wanted.service,
        model=refused.wanted.facts.id,
        needs_bytes=refused.needs,
        why=refused.why,
        options=list(refused.options),
    )
