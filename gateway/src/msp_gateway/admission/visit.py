"""One request's way through admission, and what its client is told on it."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from msp_common.contracts.workers import Worker
from msp_gateway.admission.fair_queue import QueueFull, Ticket
from msp_gateway.admission.interfaces import Ask
from msp_gateway.admission.queue_metrics import QueueMetrics, Why
from msp_gateway.admission.rate_limits import RateLimits
from msp_gateway.admission.refusals import Refused, WaitedTooLong
from msp_gateway.admission.service_rate import ServiceRate
from msp_gateway.upstream import RawHeaders

UNMEASURED_RETRY_S = 5.0
"""When a client is asked to come again while nothing was measured yet."""
NEWS_S = 2.0
"""How often a client that asked for it is told of its waiting."""


class Account(Protocol):
    """The account of one request that was let in."""

    def closed(self, gpu_s: float) -> None:
        """The request has ended; its share of GPU time."""


class Ledger(Protocol):
    """Keeps account of what is let in."""

    def opened(self, ask: Ask, estimate: float) -> Account:
        """The request is let in; so many tokens were charged to its key."""


class Places(Protocol):
    """Where the places are: the gate."""

    metrics: QueueMetrics
    rate: ServiceRate

    @property
    def deadline_s(self) -> float:
        """How long a request may wait."""

    def set_replicas(self, model: str, replicas: Sequence[Worker]) -> int:
        """The model has these replicas now; how many places that makes."""

    def enter(self, ticket: Ticket) -> float | asyncio.Future[float]:
        """The GPU meter at the beginning of the place, now or in future. Raises QueueFull."""

    def leave(self, ticket: Ticket) -> float:
        """Give up the place, or the waiting for it. The GPU meter at that moment."""

    def position(self, ticket: Ticket) -> int:
        """How many are to go until the waiting ticket's turn, itself included."""


class Visit:
    """One request's place, which it may have to wait for."""

    __slots__ = (
        "_account",
        "_ask",
        "_began",
        "_clock",
        "_count",
        "_estimate",
        "_gate",
        "_ledger",
        "_limits",
        "_meter",
        "_promised",
        "_ticket",
        "fields",
        "waited_s",
    )

    def __init__(
        self, gate: Places, limits: RateLimits, ledger: Ledger, ask: Ask, clock: Callable[[], float]
    ) -> None:
        """Raises Refused, which charges nothing."""
        self._gate, self._limits, self._ledger = gate, limits, ledger
        self._ask, self._clock = ask, clock
        self._account: Account | None = None
        self._promised: asyncio.Future[float] | None = None
        self._began = self._meter = self.waited_s = 0.0
        own = ask.identity.limits
        self._ticket = Ticket(ask.identity.key_id, ask.model_id, own.weight, own.concurrency, ask.body_bytes)
        try:
            self._estimate = limits.take(ask.identity, ask.body_bytes)
        except Refused:
            gate.metrics.refused(ask.model_id, Why.RATE)
            raise
        self.fields: RawHeaders = limits.fields(ask.identity)
        self._count = gate.set_replicas(ask.model_id, ask.replicas)
        try:
            entered = gate.enter(self._ticket)
        except QueueFull as full:
            raise self._full(full) from None
        if isinstance(entered, float):
            self._begin(entered)
        else:
            self._promised = entered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place back, or the waiting for it up."""
        self.give_back()

    def give_back(self) -> None:
        """Give the place back, or the waiting for it up."""
        meter = self._gate.leave(self._ticket)
        if self._account is None:
            self._limits.give_back(self._ask.identity, self._estimate)
            return
        self._gate.rate.ended(self._ask.model_id, self._clock() - self._began)
        self._account.closed(meter - self._meter)

    @property
    def granted(self) -> bool:
        """Whether the request may be worked on now."""
        return self._account is not None

    async def wait(self) -> None:
        """Return once the place is granted. Raises Refused and WaitedTooLong."""
        if self._promised is None:
            return
        model, position = self._ask.model_id, self._ticket.position
        told, wait_s, deadline_s = self._told(position), self._wait_s(position), self._gate.deadline_s
        if wait_s is not None and wait_s > deadline_s and self._gate.rate.is_trusted(model):
            self._gate.metrics.refused(model, Why.EXPECTED)
            raise Refused(
                f"{model} is busy: the turn of this request would come in about {wait_s:.0f} s, and requests "
                f"wait {deadline_s:g} s at most.",
                told,
                wait_s,
            )
        waiting = self._gate.metrics.waiting.labels(model)
        waiting.inc()
        try:
            self._begin(await self._wait(self._promised, told))
        finally:
            waiting.dec()

    def _begin(self, meter: float) -> None:
        self._meter, self._began = meter, self._clock()
        self._account = self._ledger.opened(self._ask, self._estimate)

    def _full(self, full: QueueFull) -> Refused:
        """There is no room to wait: all is given back."""
        model = self._ask.model_id
        self._gate.metrics.refused(model, Why.FULL)
        refused = Refused(
            f"{model} is busy, and {full}.", self._told(full.position), self._retry_s(full.position)
        )
        self._gate.leave(self._ticket)
        self._limits.give_back(self._ask.identity, self._estimate)
        return refused

    async def _wait(self, granted: asyncio.Future[float], told: RawHeaders) -> float:
        loop, tell = asyncio.get_running_loop(), self._ask.tell_waiting
        began, deadline = self._clock(), loop.time() + self._gate.deadline_s
        while not granted.done() and (left_s := deadline - loop.time()) > 0:
            if tell is not None:
                position = self._gate.position(self._ticket)
                await tell(position, self._wait_s(position))
            await asyncio.wait({granted}, timeout=left_s if tell is None else min(left_s, NEWS_S))
        waited_s = self._clock() - began
        fields = [*told, (b"x-msp-queue-wait-ms", b"%d" % round(1000 * waited_s))]
        if granted.done():
            self.fields, self.waited_s = fields, waited_s
            return granted.result()
        self._gate.metrics.refused(self._ask.model_id, Why.DEADLINE)
        position = self._gate.position(self._ticket)
        raise WaitedTooLong(
            f"No worker of {self._ask.model_id} became free within {self._gate.deadline_s:g} s; {position} "
            "requests are to go until the turn of this one.",
            fields,
            self._retry_s(position),
        )

    def _wait_s(self, position: int) -> float | None:
        own = self._ticket.key_limit
        places = self._count if own is None else min(self._count, own)
        return self._gate.rate.wait_s(self._ask.model_id, position, places)

    def _retry_s(self, position: int) -> float:
        wait_s = self._wait_s(position)
        return UNMEASURED_RETRY_S if wait_s is None else wait_s

    def _told(self, position: int) -> RawHeaders:
        told = [*self.fields, (b"x-msp-queue-position", b"%d" % position)]
        wait_s = self._wait_s(position)
        if wait_s is not None:
            told.append((b"x-msp-queue-expected-wait-ms", b"%d" % round(1000 * wait_s)))
        return told
