"""How the worker is, and what GPU it sees."""

from collections.abc import Callable, Mapping
from typing import Literal

from fastapi import APIRouter, Response

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.health import Health, Part
from msp_common.contracts.workers import ServedModel, WorkerState
from msp_model_service.life import Status


class WorkerHealth(Health):
    """Health of a worker: `down` with 503 until its model answers."""

    worker_id: str
    model: ServedModel
    state: WorkerState
    progress: float | None
    """Share of the present state's work that is done, 0 to 1; null where it is not known."""
    start_phases_s: dict[str, float]
    """How long each phase of the start took that is over: fetching, and those of loading."""
    quantization: str | None = None
    """In how few bits the weights are held; null where they are in full, and until they are loaded."""


def health_of(
    status: Status,
    *,
    worker_id: str,
    model: ServedModel,
    version: str,
    lease_problem: str | None,
    weights_note: str | None,
    engine_note: str | None,
    start_phases_s: Mapping[str, float],
    quantization: str | None = None,
) -> WorkerHealth:
    """The verdict. A worker without a lease does its job for those who know its address: `degraded`."""
    ready = status.state is WorkerState.READY
    parts = {
        "model": Part(status="ok" if ready else "down", reason=status.reason),
        "lease": Part(status="degraded" if lease_problem else "ok", reason=lease_problem),
    }
    if weights_note:
        parts["weights"] = Part(status="degraded", reason=weights_note)
    if engine_note:
        # It answers as well as the model's architecture lets it: nothing to be alarmed about.
        parts["engine"] = Part(status="ok", reason=engine_note)
    doubts = "; ".join(part.reason for part in parts.values() if part.status != "ok" and part.reason)
    overall: Literal["ok", "degraded", "down"] = "down" if not ready else "degraded" if doubts else "ok"
    return WorkerHealth(
        status=overall,
        reason=(doubts or None) if ready else status.sentence(),
        service="model-service",
        version=version,
        parts=parts,
        worker_id=worker_id,
        model=model,
        state=status.state,
        progress=status.progress,
        start_phases_s=dict(start_phases_s),
        quantization=quantization,
    )


def router(health: Callable[[], WorkerHealth], gpus: Callable[[], GpuReport]) -> APIRouter:
    """`/health` and `/gpu-stats`."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health", summary="Whether the model answers; 503 with the same body while it does not")
    async def get_health(response: Response) -> WorkerHealth:
        verdict = health()
        response.status_code = verdict.http_status
        return verdict

    @routes.get("/gpu-stats", summary="The GPU that this worker sees; null with the reason where none is")
    async def get_gpu_stats() -> GpuReport:
        return gpus()

    return routes
