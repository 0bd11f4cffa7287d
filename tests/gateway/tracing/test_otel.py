"""Traces: one span for a request, one for each replica that was asked, and the worker's belong to them."""

import re
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from msp_gateway.failures import FailedTry, Happened
from msp_gateway.fields import Fields
from msp_gateway.record import Record
from msp_gateway.tracing.otel import OtelTracing
from msp_gateway.tracing.traces import NoTracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"


class Traced:
    def __init__(self, share: float) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = OtelTracing(self.exporter, share, "1.0", lambda: 50.0)

    def spans(self) -> list[ReadableSpan]:
        """What was sent by now, in the order in which it ended."""
        self.tracing._provider.force_flush()
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced(share=1)
    yield traced
    traced.tracing.close()


def record() -> Record:
    return Record(
        request_id="r1",
        path="/v1/chat/completions",
        started=10.0,
        identity="anna",
        asked=[("w1", "m", 11.0), ("w2", "m", 13.0)],
        failed=[FailedTry(Happened.RESET, "w1", "m", "connection reset")],
        model="m",
        worker="w2",
        status=200,
        first_byte=14.0,
        ended=20.0,
        complete=True,
        prompt_tokens=7,
    )


def test_a_request_is_a_span_with_its_tries_below_it(traced: Traced) -> None:
    traced.tracing.begin(Fields([])).end(record())
    first, second, request = traced.spans()
    assert request.name == "POST /v1/chat/completions"
    assert request.attributes is not None
    assert request.attributes["gen_ai.operation.name"] == "chat"
    assert request.attributes["gen_ai.usage.input_tokens"] == 7
    assert request.status.status_code is not StatusCode.ERROR
    assert [span.parent for span in (first, second)] == [request.context, request.context]
    assert (first.start_time, first.end_time) != (None, None)
    assert first.end_time == second.start_time
    assert (first.end_time or 0) - (first.start_time or 0) == pytest.approx(2e9)
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is not StatusCode.ERROR


def test_a_client_s_trace_goes_on_and_the_worker_s_fields_name_our_span(traced: Traced) -> None:
    trace = traced.tracing.begin(Fields([(b"traceparent", PARENT.encode())]))
    fields = dict(trace.fields([(b"traceparent", PARENT.encode()), (b"accept", b"*/*")]))
    trace.end(record())
    request = traced.spans()[-1]
    assert request.context is not None
    assert f"{request.context.trace_id:032x}" == PARENT[3:35]
    sent = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", fields[b"traceparent"].decode())
    assert sent is not None
    assert sent.groups() == (PARENT[3:35], f"{request.context.span_id:016x}")
    assert fields[b"accept"] == b"*/*"


def test_a_client_that_is_not_traced_is_not_traced_here(traced: Traced) -> None:
    traced.tracing.begin(Fields([(b"traceparent", UNSAMPLED.encode())])).end(record())
    assert traced.spans() == []


def test_a_share_of_none_traces_nothing() -> None:
    traced = Traced(share=0)
    traced.tracing.begin(Fields([])).end(record())
    assert traced.spans() == []
    traced.tracing.close()


def test_an_answer_that_broke_off_is_an_error(traced: Traced) -> None:
    broken = record()
    broken.complete = False
    traced.tracing.begin(Fields([])).end(broken)
    assert traced.spans()[-1].status.status_code is StatusCode.ERROR


def test_without_tracing_a_client_s_fields_go_on_untouched() -> None:
    fields = [(b"traceparent", PARENT.encode())]
    assert NoTracing().begin(Fields([])).fields(fields) is fields
