"""Asks one replica after the other until one answers, and passes its answer on as it arrives."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from starlette.types import Send

from msp_common.contracts.workers import ReportKind, Verdict, Worker, WorkerReport
from msp_common.errors import Unavailable, UpstreamFailed, UpstreamTimeout
from msp_gateway import failures, headers
from msp_gateway.accounting import Record
from msp_gateway.error_answers import ErrorAnswer, enveloped
from msp_gateway.events import EventStream, error_event, is_event_stream
from msp_gateway.failures import JUDGEMENTS, FailedTry, Fault, Happened
from msp_gateway.head import ClientRequest
from msp_gateway.replicas import Replicas
from msp_gateway.reports import Reports
from msp_gateway.upstream import (
    RawHeaders,
    Upstream,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamRequest,
    UpstreamResponse,
)

MAX_ERROR_BYTES = 256 * 1024
"""An error's body is read up to here before it is passed on."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One request as it goes to workers: the path, the fields that go on, and the client's bytes."""

    path: str
    headers: RawHeaders
    request: ClientRequest


@dataclass(frozen=True)
class Answer:
    """A good answer of which at least the first byte has arrived. `aclose` ends the exchange."""

    worker: Worker
    response: UpstreamResponse
    first: bytes
    rest: AsyncIterator[bytes]


@dataclass(frozen=True)
class _Miss:
    """A try without a good answer; `error` is what the worker answered instead, if it did."""

    tried: FailedTry
    error: ErrorAnswer | None = None


class Relay:
    """The effects around the failure table."""

    def __init__(
        self,
        upstream: Upstream,
        replicas: Replicas,
        reports: Reports,
        first_byte_timeout_s: float,
        on_first_byte: Callable[[Record], None],
    ) -> None:
        self._upstream = upstream
        self._replicas = replicas
        self._reports = reports
        self._first_byte_timeout_s = first_byte_timeout_s
        self._on_first_byte = on_first_byte

    async def run(self, call: Call, candidates: Sequence[Worker], record: Record, send: Send) -> bool:
        """Send an answer, but for its end; False if it broke off, so that no end may be sent.

        The record's `failed`, `model`, `worker`, `status` and `first_byte` are filled in. Raises ApiError
        when no replica answered at all; nothing has been sent then.
        """
        misses: list[_Miss] = []
        for worker in candidates:
            if not failures.may_ask(worker.lease.model.id, record.failed):
                continue
            record.model, record.worker = worker.lease.model.id, worker.id
            self._replicas.started(worker.id)
            try:
                result = await self._ask(call, worker)
                if isinstance(result, Answer):
                    try:
                        return await self._pass_on(result, record, send)
                    finally:
                        await result.response.aclose()
            finally:
                self._replicas.ended(worker.id)
            misses.append(result)
            record.failed.append(result.tried)
            self._judge(result.tried, record)
        await self._send_error(_last_word(misses), record, send)
        return True

    async def _ask(self, call: Call, worker: Worker) -> Answer | _Miss:
        request = UpstreamRequest(
            url=f"{worker.lease.url}{call.path}",
            headers=call.headers,
            body=call.request.body_for(worker.lease.model.id),
        )
        response = None

        def miss(what: Happened, detail: str = "", error: ErrorAnswer | None = None) -> _Miss:
            return _Miss(FailedTry(what, worker.id, worker.lease.model.id, detail), error)

        try:
            async with asyncio.timeout(self._first_byte_timeout_s):
                response = await self._upstream.open(request)
                rest = response.chunks()
                what = failures.of_status(
                    response.status,
                    has_retry_after=headers.value_of(response.headers, b"retry-after") is not None,
                )
                if what is None:
                    # Also an empty body is an answer.
                    answer = Answer(worker, response, await anext(rest, b""), rest)
                    response = None
                    return answer
                return miss(what, f"status {response.status}", await _error_answer(what, response))
        except UpstreamRefused as error:
            return miss(Happened.REFUSED, str(error))
        except UpstreamGarbage as error:
            return miss(Happened.GARBAGE, str(error))
        except UpstreamError as error:
            return miss(Happened.RESET, str(error))
        except TimeoutError:
            what = failures.of_timeout(worker.lease.load.last_progress_age_s)
            return miss(what, f"no first byte within {self._first_byte_timeout_s:g} s")
        finally:
            if response is not None:
                await response.aclose()

    async def _pass_on(self, answer: Answer, record: Record, send: Send) -> bool:
        self._on_first_byte(record)
        record.status = answer.response.status
        fields = headers.for_client(answer.response.headers, record.request_id)
        await send({"type": "http.response.start", "status": record.status, "headers": fields})
        events = EventStream() if is_event_stream(headers.value_of(fields, b"content-type")) else None
        try:
            if passed := events.feed(answer.first) if events else answer.first:
                await _send_part(send, passed)
            async for chunk in answer.rest:
                if passed := events.feed(chunk) if events else chunk:
                    await _send_part(send, passed)
        except UpstreamError as error:
            tried = FailedTry(Happened.BROKEN_OFF, answer.worker.id, answer.worker.lease.model.id, str(error))
            record.failed.append(tried)
            self._judge(tried, record)
            if events is not None and events.done:
                return True  # all that the client waits for had been sent
            if events is not None:
                broken_off = UpstreamFailed("The model's worker broke off its answer.")
                await _send_part(send, error_event(broken_off))
            return False
        if events is not None and (passed := events.rest()):
            await _send_part(send, passed)
        if self._replicas.answered(answer.worker.id) or answer.worker.verdict is Verdict.SUSPECT:
            report = WorkerReport(kind=ReportKind.OK, request_id=record.request_id)
            self._reports.tell(answer.worker.id, report)
        return True

    def _judge(self, tried: FailedTry, record: Record) -> None:
        judgement = JUDGEMENTS[tried.what]
        if judgement.fault is Fault.WORKER:
            log.warning("%s: %s", tried.what, tried.detail, extra={"worker": tried.worker_id})
            self._replicas.failed(tried.worker_id)
        if judgement.report is not None:
            report = WorkerReport(
                kind=judgement.report, detail=tried.detail[:500], request_id=record.request_id
            )
            self._reports.tell(tried.worker_id, report)

    @staticmethod
    async def _send_error(error: ErrorAnswer, record: Record, send: Send) -> None:
        record.status = error.status
        fields = [*error.headers(), (b"x-request-id", record.request_id.encode())]
        await send({"type": "http.response.start", "status": error.status, "headers": fields})
        await _send_part(send, error.body)


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _error_answer(what: Happened, response: UpstreamResponse) -> ErrorAnswer:
    body = b""
    async for chunk in response.chunks():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    status = response.status if response.status >= 400 else 502
    retry_after = headers.value_of(response.headers, b"retry-after")
    # Another replica has been tried already, if there is one: repeating it would only double the work.
    should_retry = False if what is Happened.SERVER_ERROR else None
    return ErrorAnswer(status, enveloped(status, body), retry_after, should_retry)


def _last_word(misses: Sequence[_Miss]) -> ErrorAnswer:
    """What the client is told when no try brought a good answer: the gravest of what happened.

    Back-pressure invites clients to come again, so it is told only where no worker may have been harmed by
    the request, nor be at work on it still. Raises ApiError where the worker gave no error to pass on.
    """
    happened = {miss.tried.what for miss in misses}
    if happened & {Happened.NO_FIRST_BYTE, Happened.STALLED}:
        raise UpstreamTimeout("The model's worker did not begin to answer in time.", should_retry=False)
    for kinds in ({Happened.CLIENT_ERROR, Happened.SERVER_ERROR}, {Happened.BACK_PRESSURE}):
        given = [miss.error for miss in misses if miss.error is not None and miss.tried.what in kinds]
        if given:
            return given[-1]
        if happened & {Happened.RESET, Happened.GARBAGE}:
            raise UpstreamFailed("The workers of the model failed on this request.", should_retry=False)
    raise Unavailable("No worker of the model can be reached.", retry_after_s=1)
