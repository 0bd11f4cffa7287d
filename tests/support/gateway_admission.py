"""What stands around admission in tests: requests, a ledger with a memory, and a gate over them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from msp_common.contracts.keys import KeyLimits
from msp_common.contracts.workers import Worker, WorkerLoad
from msp_gateway.admission import Ask, Identity, Place
from msp_gateway.admission.gate import Gate, QueueBounds
from msp_gateway.admission.queue_metrics import QueueMetrics
from msp_gateway.admission.rate_limits import RateLimits
from msp_gateway.head import Head
from support.gateway_cluster import LLM, GatewayClock, worker


@dataclass
class FakeProgress:
    """How far a request has come, as the test says."""

    status: int | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_estimated: bool = False


def key(name: str = "key", **limits: object) -> Identity:
    """A key with these limits."""
    return Identity(name, name, KeyLimits.model_validate(limits))


def ask(
    identity: Identity | None = None,
    *,
    slots: int = 2,
    request_id: str = "r1",
    body_bytes: int = 0,
    model_id: str = LLM,
    progress: FakeProgress | None = None,
    tell_waiting: Callable[[int, float | None], Awaitable[None]] | None = None,
) -> Ask:
    """A request for a model with one replica of so many slots; none at 0."""
    replicas = [worker("w", model_id, load=WorkerLoad(slots=slots))] if slots else []
    return Ask(
        identity=identity or key(),
        head=Head(model_id),
        request_id=request_id,
        model_id=model_id,
        replicas=replicas,
        body_bytes=body_bytes,
        progress=progress or FakeProgress(),
        tell_waiting=tell_waiting,
    )


@dataclass
class FakeLedger:
    """Remembers who was let in, and who has ended."""

    inside: list[Ask] = field(default_factory=list)
    ended: list[tuple[Ask, float]] = field(default_factory=list)

    def opened(self, ask: Ask, estimate: float) -> "FakeAccount":
        self.inside.append(ask)
        return FakeAccount(self, ask)


@dataclass
class FakeAccount:
    """One request in the ledger."""

    ledger: FakeLedger
    ask: Ask

    def closed(self, gpu_s: float) -> None:
        self.ledger.inside.remove(self.ask)
        self.ledger.ended.append((self.ask, gpu_s))


@dataclass
class Admissions:
    """A gate, and its requests that wait or are inside."""

    bounds: QueueBounds = field(default_factory=lambda: QueueBounds(ahead=0))
    clock: GatewayClock = field(default_factory=GatewayClock)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    replicas: list[Worker] = field(default_factory=list)
    """What a second look at the cluster shows."""

    def __post_init__(self) -> None:
        self.metrics = CollectorRegistry()
        self.limits = RateLimits(self.clock)
        self.gate = Gate(
            self.bounds, self.limits, self.ledger, self._replicas, self.clock, QueueMetrics(self.metrics)
        )

    def _replicas(self, model: str) -> Sequence[Worker]:
        return self.replicas

    async def enter(self, request: Ask) -> tuple[Place, AsyncExitStack]:
        """The place, once there is one, and what ends the request when it is closed."""
        async with AsyncExitStack() as stack:
            place = stack.enter_context(self.gate.admit(request))
            await place.wait()
            return place, stack.pop_all()

    async def waits(self, request: Ask) -> asyncio.Task[tuple[Place, AsyncExitStack]]:
        """A request that has come to wait."""
        before = self.gate.queue.waiting
        task = asyncio.create_task(self.enter(request))
        async with asyncio.timeout(10):
            while self.gate.queue.waiting == before:  # noqa: ASYNC110  (the task must run)
                await asyncio.sleep(0)
        return task
