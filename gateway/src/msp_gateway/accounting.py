"""One record for every relayed request: to the metrics, and as one log line without content."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from msp_gateway.failures import FailedTry

CLIENT_LEFT_STATUS = 499
"""How a request is counted whose client left before the answer began; no client ever sees it."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

log = logging.getLogger(__name__)


@dataclass
class Record:
    """What is known of one request; filled in on its way. Moments are the clock's seconds."""

    request_id: str
    path: str
    started: float
    identity: str | None = None
    requested_model: str | None = None
    stream: bool = False
    model: str | None = None
    """The model that answered, or that was asked last."""
    worker: str | None = None
    failed: list[FailedTry] = field(default_factory=list)
    status: int | None = None
    first_byte: float | None = None
    complete: bool = False
    """Whether the answer reached its end: not so when the worker broke off or the client left."""


class Accounts:
    """Keeps the gateway's own metrics."""

    def __init__(self, metrics: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._in_flight = Gauge(
            "msp_gateway_requests_in_flight", "Requests being worked on", ["path"], registry=metrics
        )
        self._requests = Counter(
            "msp_gateway_requests",
            "Requests by how they ended; 499 is a client that left before the answer began",
            ["path", "model", "status"],
            registry=metrics,
        )
        self._incomplete = Counter(
            "msp_gateway_answers_incomplete",
            "Answers that began and did not reach their end",
            ["path", "model"],
            registry=metrics,
        )
        self._failed_tries = Counter(
            "msp_gateway_failed_tries",
            "Tries at a worker that brought no good answer, by what happened",
            ["model", "what"],
            registry=metrics,
        )
        self._first_byte_s = Histogram(
            "msp_gateway_first_byte_seconds",
            "Time from the request's arrival to the first byte of its answer",
            ["path", "model"],
            buckets=_SECONDS,
            registry=metrics,
        )
        self._duration_s = Histogram(
            "msp_gateway_request_seconds",
            "Time from the request's arrival to the end of its answer",
            ["path", "model"],
            buckets=_SECONDS,
            registry=metrics,
        )

    def open(self, request_id: str, path: str) -> Record:
        """A request has arrived. Every record that is opened must be closed."""
        self._in_flight.labels(path).inc()
        return Record(request_id, path, self._clock())

    def first_byte(self, record: Record) -> None:
        """The answer's first byte is there."""
        record.first_byte = self._clock()

    def close(self, record: Record) -> None:
        """The request has ended, in whatever way."""
        now = self._clock()
        # Only models that exist become labels: a client could make up any number of others.
        model = record.model or ""
        status = str(record.status or CLIENT_LEFT_STATUS)
        first_byte_s = None if record.first_byte is None else round(record.first_byte - record.started, 4)
        self._in_flight.labels(record.path).dec()
        self._requests.labels(record.path, model, status).inc()
        self._duration_s.labels(record.path, model).observe(now - record.started)
        if first_byte_s is not None:
            self._first_byte_s.labels(record.path, model).observe(first_byte_s)
            if not record.complete:
                self._incomplete.labels(record.path, model).inc()
        for tried in record.failed:
            self._failed_tries.labels(tried.model_id, tried.what.value).inc()
        log.info(
            "request",
            extra={
                "path": record.path,
                "status": record.status or CLIENT_LEFT_STATUS,
                "complete": record.complete,
                "stream": record.stream,
                "identity": record.identity,
                "requested_model": record.requested_model,
                "model": record.model,
                "worker": record.worker,
                "failed_tries": [f"{t.worker_id}:{t.what}" for t in record.failed],
                "first_byte_s": first_byte_s,
                "duration_s": round(now - record.started, 4),
            },
        )
