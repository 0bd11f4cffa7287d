"""A worker's life: from nothing to a served model, and to a clean end."""

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, ServedModel, WorkerLease, WorkerLoad, WorkerState
from msp_common.errors import Unavailable
from msp_model_service.daemon_thread import in_daemon_thread
from msp_model_service.engines.engine_life import EngineLife
from msp_model_service.engines.figures import EngineFigures, TellsFigures
from msp_model_service.engines.lifecycle import Engine, EngineLoadFailed
from msp_model_service.engines.model_facts import ModelFacts, TellsModelFacts
from msp_model_service.gpus.monitor import GpuMonitor
from msp_model_service.gpus.pinning import pinning_problem
from msp_model_service.lease import LeaseKeeper, LeaseOffice
from msp_model_service.life import Status, backoff_s, may_become
from msp_model_service.metrics import WorkerMetrics
from msp_model_service.phases import Phases
from msp_model_service.settings import Identity
from msp_model_service.usage_log import UsageLog
from msp_model_service.weights.cache import Stopped
from msp_model_service.weights.fetch_errors import NotYet, Refused
from msp_model_service.weights.weights import Snapshot, Weights

T = TypeVar("T")

_GPU_ANSWERS_WITHIN_S = 10.0
_LOOK_AT_ENGINE_EVERY_S = 1.0
_UNLOAD_WITHIN_S = 10.0
_RETRY_AFTER_S = 5.0
log = logging.getLogger(__name__)

_MODALITIES: dict[ModelType, list[Literal["text", "image", "audio"]]] = {
    ModelType.LLM: ["text"],
    ModelType.EMBEDDING: ["text"],
    ModelType.MULTIMODAL: ["text", "image"],
    ModelType.TRANSCRIPTION: ["audio"],
}


class GpuRefused(Exception):
    """What the worker sees is not the GPU it was told to use."""


@dataclass(frozen=True)
class Plan:
    """What this worker is to be."""

    identity: Identity
    model: ServedModel
    device: str
    """`auto`, `cpu` or `cuda`; `cpu` where the engine uses no GPU."""
    version: str
    expected_gpu_uuid: str | None = None
    may_split: bool = False
    """Whether the engine may use several GPUs for the one model."""
    speaks_wire: bool = False
    """Whether the engine is a WireEngine: a server whose answers are passed on."""


@dataclass(frozen=True)
class Parts:
    """What a worker works with."""

    make_engine: Callable[[], Engine]
    """Called in a thread: it imports the engine."""
    weights: Weights
    office: LeaseOffice
    gpus: GpuMonitor
    metrics: WorkerMetrics
    on_broken: Callable[[], None] = lambda: None
    """Called once when a loaded engine can do its job no longer."""
    backoff: Callable[[int], float] = backoff_s
    look_every_s: float = _LOOK_AT_ENGINE_EVERY_S


class Worker:
    """One model's service. `start`, then `drain` and `stop`, each once, on the event loop."""

    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        self.metrics = parts.metrics
        self._parts = parts
        self._started_at = time.time()
        self.usage = UsageLog(self._started_at)
        self._status = Status()
        self._commit: str | None = None
        self.start_phases_s: dict[str, float] = {}
        """How long the phases of the start took that are over."""
        self._engines = EngineLife(parts.make_engine)
        self._capabilities = Capabilities(
            paths=list(plan.model.type.paths), input_modalities=_MODALITIES[plan.model.type]
        )
        self._snapshot: Snapshot | None = None
        self._give_up = threading.Event()
        self._ending = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._broken = False
        self.loading_in_thread = False
        """Whether an engine is being imported or loaded. That cannot be interrupted, only left behind."""
        self.lease = LeaseKeeper(parts.office, plan.identity.worker_id, self.describe)
        parts.metrics.of_model(plan.model, version=plan.version)
        parts.metrics.follow_load(self.load_now)
        parts.metrics.follow_figures(self.figures_now)
        parts.metrics.observe_state(self._status.state)

    # What others ask.

    @property
    def status(self) -> Status:
        """Where the worker stands; an engine's problem counts from the moment it is known."""
        status, engine = self._status, self._engines.engine
        if status.state is WorkerState.READY and engine is not None and (problem := engine.problem()):
            return Status(WorkerState.FAILED, reason=problem)
        return status

    @property
    def started_at(self) -> float:
        """When the worker started, in seconds since the epoch."""
        return self._started_at

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do; what its type promises until it is loaded."""
        return self._capabilities

    @property
    def note(self) -> str | None:
        """What an operator should know of the files being served."""
        return self._snapshot.note if self._snapshot else None

    def model(self) -> ServedModel:
        """The served model, with its commit once that is known."""
        return self.plan.model.model_copy(update={"commit": self._commit})

    def engine(self) -> Engine:
        """The loaded engine. Raises Unavailable until it is ready, and after it broke.

        While draining it is still handed out: requests may be on their way that were sent before others knew.
        """
        status, engine = self.status, self._engines.engine
        if engine is not None and status.state in (WorkerState.READY, WorkerState.DRAINING):
            return engine
        failed = status.state is WorkerState.FAILED
        raise Unavailable(
            f"{self.plan.model.id} is not ready here: {status.sentence()}",
            retry_after_s=None if failed else _RETRY_AFTER_S,
            should_retry=not failed,
        )

    def load_now(self) -> WorkerLoad:
        """How busy the engine is; idle while there is none."""
        engine = self._engines.engine
        return engine.load_now() if engine is not None else WorkerLoad()

    def figures_now(self) -> EngineFigures:
        """What the engine tells beyond its load; nothing where it does not, or while there is none."""
        engine = self._engines.engine
        return engine.figures() if isinstance(engine, TellsFigures) else EngineFigures()

    def facts_now(self) -> ModelFacts | None:
        """What the engine tells of the loaded model; null while there is none."""
        engine = self._engines.engine
        if engine is None:
            return None
        return engine.model_facts() if isinstance(engine, TellsModelFacts) else ModelFacts()

    def describe(self) -> WorkerLease:
        """All that a heartbeat says."""
        status = self.status
        return WorkerLease(
            url=self.plan.identity.url,
            host=self.plan.identity.host,
            model=self.model(),
            state=status.state,
            progress=status.progress,
            reason=status.reason,
            capabilities=self._capabilities,
            load=self.load_now(),
            gpu=self._parts.gpus.latest(),
            version=self.plan.version,
            started_at=self._started_at,
        )

    # Its life.

    def start(self) -> None:
        """Register, and begin to fetch and load; returns at once."""
        self._parts.gpus.start()
        self.lease.start()
        self._life = asyncio.create_task(self._live(), name="life")

    async def drain(self) -> None:
        """Tell the others that no new requests are wanted; what runs goes on.

        A broken worker stays `failed` and keeps its lease: its model is then known to be down, not unknown,
        until it is started again.
        """
        self.usage.close()
        if self._broken:
            return
        self._become(Status(WorkerState.DRAINING, reason="the worker is being stopped"))
        await self.lease.beat()

    async def stop(self) -> None:
        """End everything. An engine that is still being loaded is left behind."""
        self.usage.close()
        if not self._broken:
            self._become(Status(WorkerState.DRAINING, reason="the worker is being stopped"))
        self._give_up.set()
        self._ending.set()
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        try:
            async with asyncio.timeout(_UNLOAD_WITHIN_S):
                await in_daemon_thread("engine-unload", self._engines.unload)
        except TimeoutError:
            log.error("the engine did not unload within %.0f s; ending without it", _UNLOAD_WITHIN_S)
        if self._snapshot is not None:
            self._snapshot.release()
        self._parts.gpus.stop()
        await self.lease.stop(release=not self._broken)

    def _become(self, status: Status) -> None:
        if not may_become(self._status.state, status.state):
            return
        self._status = status
        self.metrics.observe_state(status.state)
        level = logging.ERROR if status.state is WorkerState.FAILED else logging.INFO
        log.log(level, "%s: %s", self.plan.model.id, status.sentence())
        self.lease.changed()

    def _within(self, state: WorkerState, progress: float | None, reason: str | None) -> None:
        """More news of a state; too late if it is over."""
        if self._status.state is state:
            self._status = Status(state, progress, reason)

    async def _live(self) -> None:
        try:
            await self._check_gpu()
            # Importing takes seconds, and as long as bytes are on their way there is time for it.
            making = asyncio.create_task(self._beside_loop("engine-import", self._make_engine))
            making.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._snapshot = await self._fetch()
            self._commit = self._snapshot.commit or None
            await self._load(making, self._snapshot)
            self._become(Status(WorkerState.READY, reason=self.note))
            await self._watch()
        except (GpuRefused, Refused, EngineLoadFailed) as error:
            self._become(Status(WorkerState.FAILED, reason=str(error)))
        except Exception as error:  # whatever a model's own code raises must be told, not kill the worker
            log.exception("an error that nobody foresaw")
            self._become(Status(WorkerState.FAILED, reason=f"{type(error).__name__}: {error}"))

    async def _check_gpu(self) -> None:
        report = await in_daemon_thread(
            "gpu-check", lambda: self._parts.gpus.wait_first(_GPU_ANSWERS_WITHIN_S)
        )
        problem = pinning_problem(
            report,
            device=self.plan.device,
            expected_uuid=self.plan.expected_gpu_uuid,
            may_split=self.plan.may_split,
        )
        if problem:
            raise GpuRefused(problem)

    async def _fetch(self) -> Snapshot:
        """The snapshot, waiting as long as it takes for the registry to have it."""
        self._become(Status(WorkerState.FETCHING, reason="asking the registry"))
        began, said = time.perf_counter(), ""
        model, loop = self.plan.model, asyncio.get_running_loop()

        def tell(what: str, done: int, total: int) -> None:
            loop.call_soon_threadsafe(self._tell_fetching, what, done, total)

        for attempt in itertools.count(1):
            try:
                snapshot = await in_daemon_thread(
                    "fetch", lambda: self._parts.weights.fetch(model.id, model.revision, tell, self._give_up)
                )
                break
            except Stopped:
                raise asyncio.CancelledError from None
            except NotYet as error:
                reason = f"{error}; trying again"
                if reason != said:
                    log.warning("%s: %s", model.id, reason)
                said = reason
                self._within(WorkerState.FETCHING, self._status.progress, reason)
                self.lease.changed()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._parts.backoff(attempt)):
                        await self._ending.wait()
        seconds = time.perf_counter() - began
        self._phase_took("fetch", seconds)
        if snapshot.commit:
            log.info("%s commit %s is here and verified after %.2f s", model.id, snapshot.commit, seconds)
        return snapshot

    def _tell_fetching(self, what: str, done: int, total: int) -> None:
        progress = min(1.0, done / total) if total else None
        self._within(WorkerState.FETCHING, progress, what)

    def _make_engine(self) -> None:
        phases = Phases(self._phase_took)
        phases.enter("import")
        self._engines.make()
        phases.end()

    async def _load(self, making: asyncio.Task[None], snapshot: Snapshot) -> None:
        self._become(Status(WorkerState.LOADING, reason="importing the engine"))
        await making
        loop = asyncio.get_running_loop()
        phases = Phases(self._phase_took)

        def on_phase(phase: str, share: float | None) -> None:
            phases.enter(phase)
            loop.call_soon_threadsafe(self._within, WorkerState.LOADING, share, phase)

        def load() -> Engine:
            engine = self._engines.load(snapshot.folder, on_phase)
            phases.end()
            return engine

        engine = await self._beside_loop("engine-load", load)
        self._capabilities = complete(engine.capabilities(), self._capabilities, engine.name)
        self.metrics.of_model(self.model(), version=self.plan.version, engine=engine.name)

    def _phase_took(self, phase: str, seconds: float) -> None:
        """From any thread."""
        self.metrics.observe_phase(phase, seconds)
        self.start_phases_s = {**self.start_phases_s, phase: round(seconds, 3)}

    async def _beside_loop(self, name: str, call: Callable[[], T]) -> T:
        """Run what cannot be interrupted, and remember that it runs."""

        def noted() -> T:
            self.loading_in_thread = True
            try:
                return call()
            finally:
                self.loading_in_thread = False

        return await in_daemon_thread(name, noted)

    async def _watch(self) -> None:
        """Until the engine breaks: then say so everywhere, at once."""
        while True:
            await asyncio.sleep(self._parts.look_every_s)
            engine = self._engines.engine
            if engine is not None and (problem := engine.problem()):
                self._broken = True
                self._become(Status(WorkerState.FAILED, reason=problem))
                await self.lease.beat()
                self._parts.on_broken()
                return


def complete(known: Capabilities, promised: Capabilities, engine: str) -> Capabilities:
    """What the engine says of itself; where it says nothing, what the model's type promises."""
    return known.model_copy(
        update={
            "paths": known.paths or promised.paths,
            "engine": known.engine or engine,
        }
    )
