"""What a worker works with, as small honest things with a memory."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msp_common.contracts.gpus import Gpu, GpuReport
from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import (
    Capabilities,
    LeaseGranted,
    ServedModel,
    WorkerLease,
    WorkerLoad,
    WorkerState,
)
from msp_model_service.engines.lifecycle import Engine, EngineLoadFailed, OnPhase
from msp_model_service.gpus.monitor import GpuMonitor
from msp_model_service.lease import LeaseRefused
from msp_model_service.metrics import WorkerMetrics
from msp_model_service.settings import Identity
from msp_model_service.weights.cache import Lock, Stopped
from msp_model_service.weights.weights import OnProgress, Snapshot, Weights
from msp_model_service.worker import Parts, Plan, Worker

COMMIT = "c" * 40
PATIENCE_S = 10.0


class RecordingOffice:
    """A service registry that remembers every lease it was shown, in order."""

    def __init__(self) -> None:
        self.leases: list[WorkerLease] = []
        self.released: list[str] = []
        self.closed = False
        self.away: str | None = None
        """Why it cannot be reached; null while it can."""
        self.settled = threading.Event()
        """Set once a worker is ready, or never will be; for tests in another thread than the worker."""
        self._news = asyncio.Condition()

    async def renew(self, worker_id: str, lease: WorkerLease) -> LeaseGranted:
        async with self._news:
            self._news.notify_all()
            if self.away:
                raise LeaseRefused(self.away)
            self.leases.append(lease)
            if lease.state in (WorkerState.READY, WorkerState.FAILED):
                self.settled.set()
        return LeaseGranted(lease_s=10, heartbeat_s=2, generation=len(self.leases))

    async def release(self, worker_id: str) -> None:
        if self.away:
            raise LeaseRefused(self.away)
        self.released.append(worker_id)

    async def close(self) -> None:
        self.closed = True

    async def until(self, wanted: Callable[[WorkerLease], bool]) -> WorkerLease:
        """The first lease, past or to come, of which `wanted` is true."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: any(wanted(lease) for lease in self.leases))
        return next(lease for lease in self.leases if wanted(lease))

    async def next_attempt(self) -> None:
        """Wait for the next heartbeat, heard or not."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait()


class GatedEngine:
    """An engine whose load pauses in each of its phases until the test lets it go on."""

    name = "gated"

    def __init__(self, phases: tuple[str, ...] = ("weights",), fails: str | None = None) -> None:
        self.gates = {phase: threading.Event() for phase in phases}
        self.fails = fails
        self.broken: str | None = None
        self.folder: Path | None = None
        self.unloads = 0
        self.note: str | None = None

    def open_all(self) -> "GatedEngine":
        for gate in self.gates.values():
            gate.set()
        return self

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        self.folder = folder
        for done, (phase, gate) in enumerate(self.gates.items()):
            on_phase(phase, done / len(self.gates))
            assert gate.wait(PATIENCE_S)
        if self.fails:
            raise EngineLoadFailed(self.fails)

    def unload(self) -> None:
        self.unloads += 1

    def capabilities(self) -> Capabilities:
        return Capabilities(context_length=512, dimensions=4, engine_note=self.note)

    def load_now(self) -> WorkerLoad:
        return WorkerLoad(in_flight=1, queued=2, slots=3)

    def problem(self) -> str | None:
        return self.broken


class ScriptedWeights:
    """Weights that first meet the given obstacles, one per attempt, and then are there."""

    def __init__(
        self, folder: Path, obstacles: list[Exception] | None = None, note: str | None = None
    ) -> None:
        self.folder = folder
        self.obstacles = obstacles or []
        self.note = note
        self.attempts = 0
        self.arrived = threading.Event()
        self.arrived.set()

    def fetch(self, model_id: str, revision: str, on_progress: OnProgress, stop: threading.Event) -> Snapshot:
        self.attempts += 1
        if self.obstacles:
            raise self.obstacles.pop(0)
        on_progress("fetching model.safetensors", 25, 100)
        while not self.arrived.wait(0.02):
            if stop.is_set():
                raise Stopped
        return Snapshot(self.folder, COMMIT, Lock(self.folder / ".lock"), self.note)


class FixedGpus:
    """A reader that always sees the same."""

    def __init__(self, report: GpuReport | None = None) -> None:
        self.report = report or GpuReport(reason="NVML cannot be used here: no driver")
        self.closed = threading.Event()

    def read(self) -> GpuReport:
        return self.report

    def close(self) -> None:
        self.closed.set()


def gpu(index: int = 0, uuid: str | None = None) -> Gpu:
    return Gpu(uuid=uuid or f"GPU-{index}000", index=index, name="NVIDIA Test")


def plan(type: ModelType = ModelType.EMBEDDING, **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "identity": Identity("w1", "http://w1:8000", "host-a"),
        "model": ServedModel(id="org/model", type=type, aliases=["nick"]),
        "device": "auto",
        "version": "1.2.3",
    }
    return Plan(**{**fields, **changes})


class Workbench:
    """A worker with fakes around it, all of them at hand."""

    def __init__(
        self,
        folder: Path,
        *,
        engine: Engine | None = None,
        weights: Weights | None = None,
        gpus: GpuReport | None = None,
        plan: Plan = plan(),  # noqa: B008  (frozen)
    ) -> None:
        self.gated = GatedEngine().open_all()
        self.engine: Engine = engine or self.gated
        self.weights: Weights = weights or ScriptedWeights(folder)
        self.office = RecordingOffice()
        self.monitor = GpuMonitor(FixedGpus(gpus), read_every_s=0.05)
        self.metrics = WorkerMetrics()
        self.made = threading.Event()
        self.waits: list[int] = []
        self.broken = asyncio.Event()
        self.worker = Worker(
            plan,
            Parts(
                make_engine=self._make_engine,
                weights=self.weights,
                office=self.office,
                gpus=self.monitor,
                metrics=self.metrics,
                on_broken=self.broken.set,
                backoff=self._backoff,
                look_every_s=0.02,
            ),
        )

    def _make_engine(self) -> Engine:
        self.made.set()
        return self.engine

    def _backoff(self, attempt: int) -> float:
        self.waits.append(attempt)
        return 0.01

    async def __aenter__(self) -> "Workbench":
        self.worker.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.worker.stop()
