"""What is counted of every relayed request, and its log line, which holds no content."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from msp_gateway.record import CLIENT_LEFT_STATUS, Record
from msp_gateway.request_log import log_fields
from msp_gateway.tallies import Count, Distribution, Series, Tallies, Tally

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_ADDED_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)

log = logging.getLogger(__name__)


class Accounts:
    """Keeps the gateway's own metrics."""

    def __init__(
        self,
        metrics: CollectorRegistry,
        clock: Callable[[], float],
        *,
        on_open: Callable[[Record], None] = lambda record: None,
        now: Callable[[], float] = time.time,
        log_request: Callable[[Record, int, float], None] | None = None,
    ) -> None:
        """`on_open` is told of every record; `now` is the time since the epoch.

        `log_request` takes each record, its status and its seconds; without it this module's logger does.
        """
        self._log = log_request or _to_logger
        self._clock = clock
        self._now = now
        self._on_open = on_open
        self._in_flight = Tally(
            "msp_gateway_requests_in_flight", "Requests being worked on", ["path"], gauge=True
        )
        self._requests = Tally(
            "msp_gateway_requests",
            "Requests by how they ended; 499 is a client that left before the answer began",
            ["path", "model", "key", "status"],
        )
        self._errors = Tally(
            "msp_gateway_errors",
            "Requests that were no success, by why: the error's code, or what happened at the worker",
            ["path", "model", "cause"],
        )
        self._incomplete = Tally(
            "msp_gateway_answers_incomplete",
            "Answers that began and did not reach their end",
            ["path", "model"],
        )
        self._failed_tries = Tally(
            "msp_gateway_failed_tries",
            "Tries at a worker that brought no good answer, by what happened",
            ["model", "what"],
        )
        self._retries = Tally("msp_gateway_retries", "Times that another replica was asked", ["model"])
        self._resumes = Tally(
            "msp_gateway_resumes",
            "Streams whose worker died in the middle, by what came of going on with them: resumed, "
            "impossible, failed",
            ["model", "outcome"],
        )
        self._first_byte_s = Distribution(
            "msp_gateway_first_byte_seconds",
            "Time from the request's arrival to the first byte of its answer",
            ["path", "model"],
            _SECONDS,
        )
        self._added_s = Distribution(
            "msp_gateway_added_latency_seconds",
            "Time from a request's last byte to asking a worker, without the time in the queue",
            ["path"],
            _ADDED_S,
        )
        self._queue_s = Distribution(
            "msp_gateway_queue_seconds",
            "Time that requests waited for a place",
            ["path", "model"],
            _SECONDS,
        )
        self._duration_s = Distribution(
            "msp_gateway_request_seconds",
            "Time from the request's arrival to the end of its answer",
            ["path", "model"],
            _SECONDS,
        )
        metrics.register(
            Tallies(
                self._in_flight,
                self._requests,
                self._errors,
                self._incomplete,
                self._failed_tries,
                self._retries,
                self._resumes,
                self._first_byte_s,
                self._added_s,
                self._queue_s,
                self._duration_s,
            )
        )

        self._ends: dict[tuple[str, str | None, str | None, int | None], _End] = {}

    def open(self, request_id: str, path: str) -> Record:
        """A request has arrived. Every record that is opened must be closed."""
        self._in_flight.of(path).value += 1
        record = Record(request_id, path, self._clock(), self._now())
        self._on_open(record)
        return record

    def read(self, record: Record) -> None:
        """The request is there whole."""
        record.read = self._clock()

    def asks(self, record: Record, worker: str, model: str) -> None:
        """A worker is asked."""
        record.model, record.worker = model, worker
        record.asked.append((worker, model, self._clock()))

    def first_byte(self, record: Record) -> None:
        """The answer's first byte is there."""
        record.first_byte = self._clock()

    def close(self, record: Record) -> None:
        """The request has ended, in whatever way."""
        record.ended = self._clock()
        duration_s = record.ended - record.started
        what = record.path, record.model, record.identity, record.status
        end = self._ends.get(what)
        if end is None:
            end = self._ends[what] = self._end(*what)
        end.in_flight.value -= 1
        end.requests.value += 1
        end.duration_s.add(duration_s)
        if (cause := record.cause) is not None:
            self._errors.add(record.path, end.model, cause)
        if record.first_byte is not None:
            end.first_byte_s.add(record.first_byte - record.started)
            if not record.complete:
                self._incomplete.add(record.path, end.model)
        if record.waited_s is not None:
            end.queue_s.add(record.waited_s)
        if (added_s := record.added_s) is not None:
            end.added_s.add(added_s)
        if record.resumed is not None:
            self._resumes.add(end.model, record.resumed)
        for tried in record.failed:
            self._failed_tries.add(tried.model_id, tried.what.value)
        for _, asked_model, _ in record.asked[1:]:
            self._retries.add(asked_model)
        self._log(record, end.status, duration_s)

    def _end(self, path: str, known_model: str | None, identity: str | None, status: int | None) -> "_End":
        # Only models and keys that exist become labels: a client could make up any number of others.
        model, told = known_model or "", status or CLIENT_LEFT_STATUS
        return _End(
            model=model,
            status=told,
            in_flight=self._in_flight.of(path),
            requests=self._requests.of(path, model, identity or "", str(told)),
            first_byte_s=self._first_byte_s.of(path, model),
            added_s=self._added_s.of(path),
            queue_s=self._queue_s.of(path, model),
            duration_s=self._duration_s.of(path, model),
        )


@dataclass(frozen=True, slots=True)
class _End:
    """What every request is counted in that has the same path, model, key and status."""

    model: str
    status: int
    in_flight: Count
    requests: Count
    first_byte_s: Series
    added_s: Series
    queue_s: Series
    duration_s: Series


def _to_logger(record: Record, status: int, duration_s: float) -> None:
    log.info("request", extra={"request_id": record.request_id, **log_fields(record, status, duration_s)})
