"""What `/metrics` of a worker shows."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msp_common.contracts.workers import WorkerLoad, WorkerState

# From a cached embedding to the last byte of a long answer without a stream.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class WorkerMetrics:
    """The metrics of one worker, on a collector registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "msp_worker_requests", "Answered requests.", ["path", "status"], registry=registry
        )
        self._first_byte = Histogram(
            "msp_worker_time_to_first_byte_seconds",
            "From a request's arrival to the first byte of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "msp_worker_tokens", "Tokens of answered requests.", ["kind"], registry=registry
        )
        self._audio = Counter("msp_worker_audio_seconds", "Sound that was transcribed.", registry=registry)
        self._phases = Gauge(
            "msp_worker_start_phase_seconds",
            "How long each phase of the start took: fetching, and those of loading.",
            ["phase"],
            registry=registry,
        )
        self._state = Enum(
            "msp_worker_state",
            "The worker's state.",
            states=[str(s) for s in WorkerState],
            registry=registry,
        )
        self._in_flight = Gauge("msp_worker_in_flight", "Requests the engine works on.", registry=registry)
        self._queued = Gauge("msp_worker_queued", "Requests that wait for the engine.", registry=registry)
        for kind in ("prompt", "completion"):
            self._tokens.labels(kind)

    def follow_load(self, load: Callable[[], WorkerLoad]) -> None:
        """Ask `load` for the engine's figures at every scrape."""
        self._in_flight.set_function(lambda: load().in_flight)
        self._queued.set_function(lambda: load().queued)

    def observe_state(self, state: WorkerState) -> None:
        """The worker is now in `state`."""
        self._state.state(str(state))

    def observe_phase(self, phase: str, seconds: float) -> None:
        """A phase of the start is over."""
        self._phases.labels(phase).set(seconds)

    def observe_request(self, path: str, status: int) -> None:
        """A request was answered, or its client left after the head of the answer."""
        self._requests.labels(path, str(status)).inc()

    def observe_first_byte(self, path: str, seconds: float) -> None:
        """The first byte of an answer left."""
        self._first_byte.labels(path).observe(seconds)

    def observe_tokens(self, prompt: int, completion: int) -> None:
        """See UsageSink."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)

    def observe_audio(self, seconds: float) -> None:
        """See UsageSink."""
        self._audio.inc(seconds)


class RequestMetricsMiddleware:
    """Counts requests to `paths`, and measures the time to the first byte of the answer's body.

    Only known paths become labels: whatever strangers ask for would fill the memory with series.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: WorkerMetrics,
        paths: frozenset[str],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path not in self.paths:
            await self.app(scope, receive, send)
            return
        began = self.clock()
        # 499, as proxies call it, when the client left before there was an answer.
        status, waiting = 499, True

        async def watched(message: Message) -> None:
            nonlocal status, waiting
            if message["type"] == "http.response.start":
                status = message["status"]
            elif waiting and message.get("body"):
                waiting = False
                self.metrics.observe_first_byte(path, self.clock() - began)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.observe_request(path, status)
