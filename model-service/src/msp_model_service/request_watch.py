"""Around every request to the model: metrics, the timings in the answer's head, a line in the log, and what
it used for whoever accounts for it."""

import logging
import time
from collections.abc import Callable
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msp_common import sse
from msp_common.contracts.usage import RequestUsage
from msp_model_service.metrics import WorkerMetrics
from msp_model_service.request_record import CURRENT, RequestRecord
from msp_model_service.usage_log import UsageLog

CLIENT_LEFT = 499
"""How a request is counted whose client left before there was an answer, as proxies call it."""

log = logging.getLogger(__name__)


class RequestWatchMiddleware:
    """Watches requests to `paths`.

    Only known paths become labels: whatever strangers ask for would fill the memory with series. The log line
    says how much was read and written, and never what.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: WorkerMetrics,
        paths: frozenset[str],
        model: str,
        usage: UsageLog,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths
        self.model = model
        self.usage = usage
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path not in self.paths:
            await self.app(scope, receive, send)
            return
        record = RequestRecord(path, self.clock, on_gap=partial(self.metrics.observe_gap, path))
        self.usage.begun()
        token = CURRENT.set(record)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                record.stream = headers.get("content-type", "").startswith(sse.MEDIA_TYPE)
                record.request_id = headers.get("x-request-id")
                headers.update(timing_headers(record, self.clock()))
            else:
                if message.get("body") and record.first_byte is None:
                    record.first_byte = self.clock()
                record.complete = not message.get("more_body", False) and record.status != CLIENT_LEFT
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            record.status = record.status or 500
            raise
        finally:
            CURRENT.reset(token)
            record.status = record.status or CLIENT_LEFT
            record.request_id = record.request_id or scope.get("state", {}).get("request_id")
            ended = self.clock()
            self.usage.ended(usage_of(record, ended))
            self.metrics.observe_record(record, ended)
            log.info("request", extra=log_fields(record, self.model, ended))


def timing_headers(record: RequestRecord, now: float) -> Headers:
    """Where the time went until the head of the answer: all of it, or of a stream until its first event.

    `Server-Timing` is what browsers and their tools read (W3C); the other is OpenAI's own.
    """
    spent_ms = (now - record.began) * 1000
    first_token = record.since_began(record.first_token)
    metrics = [] if first_token is None else [f"first-token;dur={first_token * 1000:.1f}"]
    metrics.append(f"head;dur={spent_ms:.1f}")
    return Headers({"server-timing": ", ".join(metrics), "openai-processing-ms": f"{spent_ms:.0f}"})


def usage_of(record: RequestRecord, ended: float) -> RequestUsage:
    """What is told to those who account for the request."""
    return RequestUsage(
        request_id=record.request_id or "",
        path=record.path,
        status=record.status or CLIENT_LEFT,
        complete=record.complete,
        stream=record.stream,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        cached_tokens=record.cached_tokens,
        audio_s=record.audio_s,
        first_token_s=_rounded(record.since_began(record.first_token)),
        duration_s=round(ended - record.began, 4),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def log_fields(record: RequestRecord, model: str, ended: float) -> dict[str, object]:
    """The fields of a request's line in the log."""
    return {
        "request_id": record.request_id,
        "path": record.path,
        "model": model,
        "status": record.status,
        "complete": record.complete,
        "stream": record.stream,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "audio_s": record.audio_s,
        "first_token_s": _rounded(record.since_began(record.first_token)),
        "first_byte_s": _rounded(record.since_began(record.first_byte)),
        "duration_s": _rounded(ended - record.began),
    }
