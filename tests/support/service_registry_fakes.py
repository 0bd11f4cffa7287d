"""A clock that stands still, workers' leases, and programs that answer `/health` as told."""

import asyncio

from msp_common.contracts.gpus import Gpu, GpuReport
from msp_common.contracts.health import Health
from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import ServedModel, WorkerLease, WorkerLoad, WorkerState
from msp_service_registry.probing import ProbeAnswer

EPOCH_OFFSET_S = 1_700_000_000.0


class FakeClock:
    """Time passes when `advance` says so, and wakes those whose moment has come, in order."""

    def __init__(self) -> None:
        self.at = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return EPOCH_OFFSET_S + self.at

    def monotonic(self) -> float:
        return self.at

    async def wait(self, event: asyncio.Event, until: float | None) -> bool:
        if until is None:
            return await event.wait()
        if until <= self.at:
            return event.is_set()
        due = asyncio.Event()
        sleeper = (until, due)
        self._sleepers.append(sleeper)
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(due.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, giving everybody who wakes on the way a turn at their own moment."""
        end = self.at + seconds
        await settle()
        while due := sorted((s for s in self._sleepers if s[0] <= end), key=lambda s: s[0]):
            moment, event = due[0]
            self._sleepers.remove(due[0])
            self.at = max(self.at, moment)
            event.set()
            await settle()
        self.at = end
        await settle()


async def settle() -> None:
    """Give every task that can run the turns it needs until it waits again."""
    for _ in range(20):
        await asyncio.sleep(0)


class FakeProber:
    """Answers as `good` says, and remembers when it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.good = True
        self.breaks = False
        self.asked: list[tuple[float, str]] = []
        self.gate: asyncio.Event | None = None

    async def probe(self, url: str) -> ProbeAnswer:
        self.asked.append((self.clock.at, url))
        if self.breaks:
            raise RuntimeError("a bug in the prober")
        good = self.good
        if self.gate is not None:
            await self.gate.wait()
        return ProbeAnswer(good, "as the test wants it")


class FakeHealth:
    """Programs by URL: a health, a reason why there is none, or an event to wait for before the answer."""

    def __init__(self, answers: dict[str, Health | str]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def read(self, url: str) -> Health | str:
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        return self.answers[url]


def lease(
    state: WorkerState = WorkerState.READY,
    *,
    url: str = "http://llm:8000",
    host: str = "alpha",
    model: str = "samples/chat",
    type: ModelType = ModelType.LLM,
    in_flight: int = 0,
    progress: float | None = None,
    reason: str | None = None,
    gpu: GpuReport | None = None,
    started_at: float = 1.0,
) -> WorkerLease:
    return WorkerLease(
        url=url,
        host=host,
        model=ServedModel(id=model, type=type),
        state=state,
        progress=progress,
        reason=reason,
        load=WorkerLoad(in_flight=in_flight),
        gpu=gpu or GpuReport(gpus=None, reason="NVML: driver not loaded"),
        version="0.1.0",
        started_at=started_at,
    )


def gpu(uuid: str, *, index: int = 0, used: int | None = 1 << 30) -> Gpu:
    return Gpu(uuid=uuid, index=index, name="NVIDIA L4", memory_total_bytes=24 << 30, memory_used_bytes=used)
