"""Traces by OpenTelemetry, sent over OTLP/HTTP to the collector that the operator names.

Attributes follow OpenTelemetry's semantic conventions for HTTP servers and for generative AI. No content and
no key is a part of a span.
"""

import time
from collections.abc import Callable, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from msp_gateway.failures import FailedTry
from msp_gateway.fields import Fields
from msp_gateway.record import CLIENT_LEFT_STATUS, Record
from msp_gateway.tracing.traces import Trace
from msp_gateway.upstream import RawHeaders

_CONTEXT_FIELDS = (b"traceparent", b"tracestate")
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
}


class OtelTracing:
    """A span for each request, with one below it for each replica that was asked.

    Spans are sent in batches by a thread; a collector that is away costs spans, never requests.
    """

    def __init__(
        self, exporter: SpanExporter, share: float, version: str, clock: Callable[[], float]
    ) -> None:
        """`share` of the requests without a trace of their own is traced; `clock` is that of the records."""
        resource = Resource.create({"service.name": "msp-gateway", "service.version": version})
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(share)))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("msp_gateway", version)
        self._propagator = TraceContextTextMapPropagator()
        self._clock = clock

    def begin(self, fields: Fields) -> Trace:
        """A trace, or the next part of the client's own."""
        carrier = {
            name.decode(): fields[name].decode("latin-1") for name in _CONTEXT_FIELDS if name in fields
        }
        parent = self._propagator.extract(carrier)
        span = self._tracer.start_span("request", parent, SpanKind.SERVER)
        return _OtelTrace(span, self._tracer, self._propagator, self._clock)

    def close(self) -> None:
        """Send what is left; blocks for some seconds at most."""
        self._provider.shutdown()


class _OtelTrace:
    def __init__(
        self,
        span: trace.Span,
        tracer: trace.Tracer,
        propagator: TraceContextTextMapPropagator,
        clock: Callable[[], float],
    ) -> None:
        self._span = span
        self._tracer = tracer
        self._propagator = propagator
        self._clock = clock

    def fields(self, headers: RawHeaders) -> RawHeaders:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._context())
        kept = [field for field in headers if field[0] not in _CONTEXT_FIELDS]
        return [*kept, *((name.encode(), value.encode()) for name, value in carrier.items())]

    def end(self, record: Record) -> None:
        if not self._span.is_recording():
            self._span.end()
            return
        # Records count by a clock without a date.
        offset_ns = time.time_ns() - round(self._clock() * 1e9)

        def at(moment: float) -> int:
            return offset_ns + round(moment * 1e9)

        ended = record.ended if record.ended is not None else self._clock()
        ends = [began for _, _, began in record.asked[1:]] + [ended]
        for number, ((worker, model, began), end) in enumerate(zip(record.asked, ends, strict=False)):
            failed = record.failed[number] if number < len(record.failed) else None
            child = self._tracer.start_span(
                "ask worker",
                self._context(),
                SpanKind.CLIENT,
                {"msp.worker": worker, "gen_ai.request.model": model},
                start_time=at(began),
            )
            _fail(child, failed)
            child.end(at(end))
        self._span.update_name(f"POST {record.path}")
        self._span.set_attributes(_attributes(record))
        if (record.status or CLIENT_LEFT_STATUS) >= 500 or (record.status == 200 and not record.complete):
            self._span.set_status(Status(StatusCode.ERROR, record.error))
        if record.first_byte is not None:
            self._span.add_event("first byte", timestamp=at(record.first_byte))
        self._span.end(at(ended))

    def _context(self) -> Context:
        return trace.set_span_in_context(self._span, Context())


def _fail(span: trace.Span, failed: FailedTry | None) -> None:
    if failed is not None:
        span.set_attribute("error.type", failed.what.value)
        span.set_status(Status(StatusCode.ERROR, failed.detail))


def _attributes(record: Record) -> Mapping[str, AttributeValue]:
    told: dict[str, AttributeValue | None] = {
        "http.request.method": "POST",
        "http.route": record.path,
        "http.response.status_code": record.status or CLIENT_LEFT_STATUS,
        "error.type": record.error,
        "gen_ai.operation.name": _OPERATIONS.get(record.path),
        "gen_ai.request.model": record.requested_model,
        "gen_ai.response.model": record.model,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
        "msp.request_id": record.request_id,
        "msp.key": record.identity,
        "msp.worker": record.worker,
        "msp.stream": record.stream,
        "msp.complete": record.complete,
        "msp.queue_s": record.waited_s,
    }
    return {name: value for name, value in told.items() if value is not None}


def otlp_tracing(endpoint: str, share: float, version: str, clock: Callable[[], float]) -> OtelTracing:
    """Tracing that sends to a collector, such as `http://collector:4318`."""
    return OtelTracing(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"), share, version, clock)
