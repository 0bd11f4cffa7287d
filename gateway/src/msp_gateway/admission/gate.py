"""Admission as it runs: limits per minute, then the fair queue, then a place, given back at the end."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import is_

from msp_common.contracts.workers import Worker
from msp_gateway.admission.capacity import gpus, places
from msp_gateway.admission.fair_queue import FairQueue, Room, Ticket
from msp_gateway.admission.gpu_time import GpuTime
from msp_gateway.admission.interfaces import Ask, Place
from msp_gateway.admission.queue_metrics import QueueMetrics
from msp_gateway.admission.rate_limits import RateLimits
from msp_gateway.admission.service_rate import ServiceRate
from msp_gateway.admission.visit import Ledger, Visit

LOOK_AGAIN_S = 0.5
"""How often it is looked whether models that are waited for have more replicas now."""


@dataclass(frozen=True)
class QueueBounds:
    """How many may wait, and for how long."""

    room: Room = field(default_factory=Room)
    deadline_s: float = 60.0
    ahead: int = 4
    """Requests beyond its slots that each replica is sent."""


class Gate:
    """Lives on one event loop; `run` is a background task."""

    def __init__(
        self,
        bounds: QueueBounds,
        limits: RateLimits,
        ledger: Ledger,
        replicas_of: Callable[[str], Sequence[Worker]],
        clock: Callable[[], float],
        metrics: QueueMetrics,
    ) -> None:
        self._bounds = bounds
        self.metrics = metrics
        self.queue = FairQueue(bounds.room)
        self.rate = ServiceRate()
        self._limits = limits
        self._ledger = ledger
        self._replicas_of = replicas_of
        self._clock = clock
        self._gpu_time = GpuTime()
        self._granted: dict[Ticket, asyncio.Future[float]] = {}
        self._somebody_waits = asyncio.Event()
        self._known: dict[str, tuple[Sequence[Worker], int]] = {}
        """By model, the replicas of last time and their places: a snapshot lasts for many requests."""

    def admit(self, ask: Ask) -> Place:
        """A place. Raises Refused."""
        return Visit(self, self._limits, self._ledger, ask, self._clock)

    @property
    def deadline_s(self) -> float:
        """How long a request may wait."""
        return self._bounds.deadline_s

    async def run(self) -> None:
        """Let waiting requests in when their models get more replicas."""
        while True:
            await self._somebody_waits.wait()
            await asyncio.sleep(LOOK_AGAIN_S)
            for model in self.queue.models_waited_for():
                self.set_replicas(model, self._replicas_of(model))
            if not self.queue.waiting:
                self._somebody_waits.clear()

    def set_replicas(self, model: str, replicas: Sequence[Worker]) -> int:
        """The model has these replicas now; how many places that makes."""
        known = self._known.get(model)
        if known is not None and (known[0] is replicas or _same(known[0], replicas)):
            return known[1]
        count = places(replicas, self._bounds.ahead)
        self._known[model] = (replicas, count)
        self._gpu_time.set_gpus(model, gpus(replicas), self._clock())
        self._wake(self.queue.set_capacity(model, count))
        return count

    def enter(self, ticket: Ticket) -> float | asyncio.Future[float]:
        """The GPU meter at the beginning of the place, now or in future. Raises QueueFull."""
        in_flight = self.queue.ask(ticket)
        if ticket.state == "granted":
            return self._gpu_time.set_in_flight(ticket.model, in_flight, self._clock())
        future = self._granted[ticket] = asyncio.get_running_loop().create_future()
        self._somebody_waits.set()
        return future

    def leave(self, ticket: Ticket) -> float:
        """Give up the place, or the waiting for it. The GPU meter at that moment."""
        if self._granted:
            self._granted.pop(ticket, None)
        if granted := self.queue.leave(ticket):
            self._wake(granted)
        return self._meter(ticket.model)

    def position(self, ticket: Ticket) -> int:
        """How many are to go until the waiting ticket's turn, itself included."""
        return self.queue.position(ticket)

    def _meter(self, model: str) -> float:
        return self._gpu_time.set_in_flight(model, self.queue.in_flight(model), self._clock())

    def _wake(self, granted: Sequence[Ticket]) -> None:
        for ticket in granted:
            future = self._granted.pop(ticket)
            if not future.done():
                future.set_result(self._meter(ticket.model))


def _same(before: Sequence[Worker], now: Sequence[Worker]) -> bool:
    return len(before) == len(now) and all(map(is_, before, now))
