"""What `/metrics` of a worker shows."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from msp_common.contracts.workers import ServedModel, WorkerLoad, WorkerState
from msp_model_service.engines.figures import EngineFigures
from msp_model_service.request_record import CURRENT, RequestRecord

# From a cached embedding to the last byte of a long answer without a stream.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
# From a small model on a GPU to a large one on a CPU that is shared by many.
_GAPS_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)


class WorkerMetrics:
    """The metrics of one worker, on a collector registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._model = ""
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

        def by_model(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, meaning, ["model", "path"], buckets=buckets, registry=registry)

        self._first_token = by_model(
            "msp_worker_time_to_first_token_seconds",
            "From a request's arrival to its first token, the waiting for its turn included.",
            _SECONDS,
        )
        self._gap = by_model(
            "msp_worker_inter_token_latency_seconds",
            "Between one token of an answer and the next.",
            _GAPS_S,
        )
        self._duration = by_model(
            "msp_worker_request_seconds", "From a request's arrival to the end of its answer.", _SECONDS
        )
        self._prompt = by_model(
            "msp_worker_request_prompt_tokens", "Tokens that a request had read.", _TOKENS
        )
        self._completion = by_model(
            "msp_worker_request_completion_tokens", "Tokens that a request had written.", _TOKENS
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
        self._info = Gauge(
            "msp_worker_info",
            "Always 1: the model and what runs it, to join other metrics with.",
            ["model", "type", "revision", "engine", "version"],
            registry=registry,
        )
        self._in_flight = Gauge("msp_worker_in_flight", "Requests the engine works on.", registry=registry)
        self._queued = Gauge("msp_worker_queued", "Requests that wait for the engine.", registry=registry)
        self._slots = Gauge("msp_worker_slots", "Requests the engine can work on at once.", registry=registry)
        self._figures = _FiguresCollector()
        registry.register(self._figures)
        for kind in ("prompt", "completion"):
            self._tokens.labels(kind)

    def of_model(self, model: ServedModel, *, version: str, engine: str = "") -> None:
        """Say what is served; once the engine is loaded, also by what."""
        self._model = self._figures.model = model.id
        self._info.clear()
        self._info.labels(model.id, str(model.type), model.revision, engine, version).set(1)

    def follow_load(self, load: Callable[[], WorkerLoad]) -> None:
        """Ask `load` for the engine's figures at every scrape."""
        self._in_flight.set_function(lambda: load().in_flight)
        self._queued.set_function(lambda: load().queued)
        self._slots.set_function(lambda: load().slots)

    def follow_figures(self, figures: Callable[[], EngineFigures]) -> None:
        """The same for what only some engines tell."""
        self._figures.ask = figures

    def observe_state(self, state: WorkerState) -> None:
        """The worker is now in `state`."""
        self._state.state(str(state))

    def observe_phase(self, phase: str, seconds: float) -> None:
        """A phase of the start is over."""
        self._phases.labels(phase).set(seconds)

    def observe_gap(self, path: str, seconds: float) -> None:
        """One token followed another."""
        self._gap.labels(self._model, path).observe(seconds)

    def observe_record(self, record: RequestRecord, ended: float) -> None:
        """A request was answered, or its client left, before the answer or during it."""
        path = record.path
        self._requests.labels(path, str(record.status)).inc()
        self._duration.labels(self._model, path).observe(ended - record.began)
        for histogram, moment in (
            (self._first_byte.labels(path), record.first_byte),
            (self._first_token.labels(self._model, path), record.first_token),
        ):
            if (seconds := record.since_began(moment)) is not None:
                histogram.observe(seconds)
        if record.prompt_tokens:
            self._prompt.labels(self._model, path).observe(record.prompt_tokens)
        if record.completion_tokens:
            self._completion.labels(self._model, path).observe(record.completion_tokens)

    def observe_tokens(self, prompt: int, completion: int) -> None:
        """See UsageSink."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)
        if (record := CURRENT.get()) is not None:
            record.note_tokens(prompt, completion)

    def observe_audio(self, seconds: float) -> None:
        """See UsageSink."""
        self._audio.inc(seconds)
        if (record := CURRENT.get()) is not None:
            record.audio_s = round((record.audio_s or 0.0) + seconds, 3)


class _FiguresCollector(Collector):
    """Series only of what the engine knows: a zero that nobody measured would be a lie."""

    def __init__(self) -> None:
        self.model = ""
        self.ask: Callable[[], EngineFigures] = EngineFigures

    def collect(self) -> Iterator[Metric]:
        """At every scrape."""
        now, labels = self.ask(), ["model"]
        gauges = (
            ("msp_worker_batch_rows", "Sequences in the engine's present batch.", now.batch_rows),
            ("msp_worker_kv_used_ratio", "Share of the memory for keys and values in use.", now.kv_used),
        )
        for name, what, value in gauges:
            meaning = f"{what} Absent where the engine does not tell."
            gauge = GaugeMetricFamily(name, meaning, labels=labels)
            if value is not None:
                gauge.add_metric([self.model], value)
            yield gauge
        reused = CounterMetricFamily(
            "msp_worker_prompt_tokens_reused",
            "Prompt tokens that did not have to be read again. Absent where the engine does not tell.",
            labels=labels,
        )
        if now.prompt_tokens_reused is not None:
            reused.add_metric([self.model], now.prompt_tokens_reused)
        yield reused
