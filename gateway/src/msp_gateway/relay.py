"""Asks one replica after the other until one answers, and passes its answer on as it arrives."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from starlette.types import Send

from msp_common.contracts.workers import ReportKind, Verdict, Worker, WorkerReport
from msp_common.errors import Unavailable
from msp_gateway import failures, headers
from msp_gateway.calls import Call, Candidate
from msp_gateway.error_answers import ErrorAnswer
from msp_gateway.events import EventStream, error_event, is_event_stream
from msp_gateway.external_servers import name_there, with_key
from msp_gateway.failures import JUDGEMENTS, FailedTry, Fault, Happened
from msp_gateway.misses import Miss, broken_off, error_answer, last_word, miss_of
from msp_gateway.passing import Passed
from msp_gateway.record import Moments, Record
from msp_gateway.replicas import Replicas
from msp_gateway.reports import Reports
from msp_gateway.resume.continuation import Continuation
from msp_gateway.resume.resuming import ASKS, Outcome, Resuming
from msp_gateway.upstream import (
    AnswerHead,
    SentRequest,
    Upstream,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamRequest,
    UpstreamResponse,
)
from msp_gateway.usage.told import Listening, Told
from msp_gateway.watchdog import Stood, Watchdog

S = TypeVar("S", bound=SentRequest)

MODEL_HEADER = b"x-msp-model"
"""Names the model that answered, which need not be the one that was asked for."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Answer:
    """A good answer of which at least the first byte has arrived. Closing the response ends the exchange."""

    worker: Worker
    response: UpstreamResponse
    first: bytes


@dataclass(frozen=True, slots=True)
class Relay:
    """The effects around the failure table."""

    upstream: Upstream
    replicas: Replicas
    reports: Reports
    watchdog: Watchdog
    newest: Callable[[str], Worker | None]
    """A worker as the last snapshot has it; None when it is gone."""
    moments: Moments
    environ: Mapping[str, str] = field(default_factory=dict)
    """Where the keys of external servers are."""
    told: Callable[[str, Told], None] = lambda request_id, told: None
    """Takes what an external server's answer told of its tokens; our own workers report theirs."""
    resuming: Resuming | None = None
    """How streams are gone on with whose worker died; without it they end with an error."""

    async def run(
        self,
        call: Call,
        candidates: Sequence[Candidate],
        record: Record,
        send: Send,
        sent: SentRequest | None = None,
    ) -> bytes | None:
        """Send an answer, but for its end: the last bytes, to be sent with it, are what is returned.

        None if it broke off, so that no end may be sent. `sent` is what `send_at_once` has begun.

        The record's `failed`, `model`, `worker`, `status` and `first_byte` are filled in. Raises ApiError
        when no replica answered at all; nothing has been sent then.
        """
        misses: list[Miss] = []
        for candidate in candidates:
            worker = candidate.worker
            if not failures.may_ask(worker.lease.model.id, candidate.stands_in_for, record.failed):
                continue
            if misses and not self._still_routable(worker):
                continue
            result = await self._try(call, worker, record, send, sent)
            if isinstance(result, Passed):
                done = result.whole or await self.after_break(call, result, record, send)
                return result.last if done else None
            misses.append(result)
            sent = None
        return await self._send_error(last_word(misses), record, send)

    def send_at_once(
        self,
        call: Call,
        candidates: Sequence[Candidate],
        record: Record,
        send: Callable[[UpstreamRequest], S | None],
    ) -> S | None:
        """Ask the first candidate without waiting for anything; None where that cannot be.

        `run` is to go on with it, or `begin` when a good answer is there, and `ended` at last.
        """
        first = candidates[0]
        model_id = first.worker.lease.model.id
        if not failures.may_ask(model_id, first.stands_in_for, record.failed):
            return None
        sent = send(self._request_to(first.worker, call))
        if sent is not None:
            self.moments.asks(record, first.worker.id, model_id)
            self.replicas.started(first.worker.id)
        return sent

    async def _try(
        self, call: Call, worker: Worker, record: Record, send: Send, sent: SentRequest | None = None
    ) -> Passed | Miss:
        """Ask one replica, and pass on what it answers. A miss is noted in the record."""
        if sent is None:
            self.moments.asks(record, worker.id, worker.lease.model.id)
            self.replicas.started(worker.id)
        try:
            result = await self._ask(call, worker, sent)
            if isinstance(result, Answer):
                try:
                    return await self._pass_on(call, result, record, send)
                finally:
                    result.response.close()
        finally:
            self.replicas.ended(worker.id)
        record.failed.append(result.tried)
        self._judge(result.tried, record)
        return result

    def _still_routable(self, worker: Worker) -> bool:
        """Whether it may be asked now: the tries before may have taken long."""
        newest = self.newest(worker.id)
        return newest is not None and newest.verdict.routable

    def _request_to(self, worker: Worker, call: Call) -> UpstreamRequest:
        fields = with_key(worker, call.headers, self.environ)
        if self.resuming is not None and self.resuming.wants(call.path, call.request, worker):
            fields = [*fields, ASKS]
        body = call.request.body_for(name_there(worker))
        return UpstreamRequest(f"{worker.lease.url}{call.path}", fields, body)

    async def _ask(self, call: Call, worker: Worker, sent: SentRequest | None) -> Answer | Miss:
        response = None
        try:
            with self.watchdog.over_beginning(worker.id):
                if sent is None:
                    response = await self.upstream.open(self._request_to(worker, call))
                else:
                    response = await sent.answer()
                what = failures.of_status(
                    response.status,
                    has_retry_after=headers.value_of(response.headers, b"retry-after") is not None,
                    external=worker.external is not None,
                )
                if what is None and not _goes_on(call, response):
                    return miss_of(worker, Happened.CLIENT_ERROR, "the worker does not know 'continue'")
                if what is None:
                    # Also an empty body is an answer.
                    answer = Answer(worker, response, await response.read())
                    response = None
                    return answer
                error = await error_answer(what, response)
                if response.status == 400:
                    takes = worker.lease.capabilities.input_modalities
                    what = failures.of_refusal(error.code, error.param, takes)
                return miss_of(worker, what, f"status {response.status}", error)
        except UpstreamRefused as refused:
            newest = self.newest(worker.id)
            return miss_of(
                worker, failures.of_no_connection(newest.verdict if newest else None), str(refused)
            )
        except UpstreamGarbage as garbage:
            return miss_of(worker, Happened.GARBAGE, str(garbage))
        except UpstreamError as broken:
            return miss_of(worker, Happened.RESET, str(broken))
        except Stood as stood:
            return miss_of(worker, stood.what, str(stood))
        finally:
            if response is not None:
                response.close()

    def begin(
        self, call: Call, worker: Worker, response: AnswerHead, record: Record
    ) -> tuple[Passed, list[tuple[bytes, bytes]]]:
        """The first byte of a good answer is there: what its head says to the client."""
        fields = headers.for_client(response.headers, record.request_id)
        streams = is_event_stream(headers.value_of(fields, b"content-type"))
        passed = Passed(worker, EventStream() if streams else None)
        if worker.external is not None:
            passed.listening = Listening(streams=streams)
        if not isinstance(call.request, Continuation):
            self.moments.first_byte(record)
            record.status = response.status
            fields.append((MODEL_HEADER, worker.lease.model.id.encode()))
            if self.resuming is not None and streams and self.resuming.wants(call.path, call.request, worker):
                passed.kept = self.resuming.room.stream()
        return passed, fields

    def broke(self, passed: Passed, error: Exception, record: Record) -> None:
        """The answer ended too early."""
        worker = passed.worker
        passed.broken = error.what if isinstance(error, Stood) else Happened.BROKEN_OFF
        tried = FailedTry(passed.broken, worker.id, worker.lease.model.id, str(error))
        record.failed.append(tried)
        self._judge(tried, record)

    def heard_out(self, passed: Passed, record: Record) -> None:
        """Nothing more of the answer is passed on, whether it has ended or not."""
        if (told := passed.told()) is not None:
            self.told(record.request_id, told)

    def went_well(self, worker: Worker, record: Record) -> None:
        """An answer has reached its end."""
        if self.replicas.answered(worker.id) or worker.verdict is Verdict.SUSPECT:
            self.reports.tell(worker.id, WorkerReport(kind=ReportKind.OK, request_id=record.request_id))

    async def _pass_on(self, call: Call, answer: Answer, record: Record, send: Send) -> Passed:
        """Send its head, unless it goes on with another answer, and its body as far as it comes."""
        worker = answer.worker
        passed, fields = self.begin(call, worker, answer.response, record)
        if not isinstance(call.request, Continuation):
            await send({"type": "http.response.start", "status": answer.response.status, "headers": fields})
        try:
            if answer.response.ended:
                passed.last = passed.next(answer.first)
            else:
                if part := passed.next(answer.first):
                    await _send_part(send, part)
                # What is in this loop is done for every event of a stream.
                read, part_of = answer.response.read, passed.of_next
                with self.watchdog.over_rest(worker.id, streams=passed.events is not None) as watch:
                    while chunk := await read():
                        watch.arrived()
                        if part := part_of(chunk):
                            await send({"type": "http.response.body", "body": part, "more_body": True})
                        watch.waits()
        except (UpstreamError, Stood) as error:
            self.broke(passed, error, record)
            return passed
        except asyncio.CancelledError:
            await tell_stopping(passed, send)
            raise
        finally:
            self.heard_out(passed, record)
            if passed.kept is not None and passed.whole:
                passed.kept.forget()
        if passed.events is not None:
            passed.last += passed.events.rest()
        self.went_well(worker, record)
        return passed

    async def after_break(self, call: Call, passed: Passed, record: Record, send: Send) -> bool:
        """Let another replica go on, or end with an error event; whether the client has all after all."""
        if passed.events is None or passed.broken is None:
            return False
        if self.resuming is not None and passed.kept is not None:
            try:
                record.resumed = await self.resuming.resume(
                    call.request,
                    passed.kept,
                    passed.worker,
                    record.failed,
                    tell=lambda part: _send_part(send, part),
                    go_on=lambda request, worker: self._go_on(call, request, worker, record, send),
                )
            finally:
                passed.kept.forget()
            if record.resumed == Outcome.RESUMED:
                return True
        await _send_part(send, error_event(broken_off(passed.broken)))
        return False

    async def _go_on(
        self, call: Call, request: Continuation, worker: Worker, record: Record, send: Send
    ) -> bool:
        """Whether the replica brought the stream to its end."""
        result = await self._try(replace(call, request=request), worker, record, send)
        if not isinstance(result, Passed):
            return False
        if result.last:
            await _send_part(send, result.last)
        return result.whole

    def _judge(self, tried: FailedTry, record: Record) -> None:
        judgement = JUDGEMENTS[tried.what]
        if judgement.fault is Fault.WORKER:
            log.warning("%s: %s", tried.what, tried.detail, extra={"worker": tried.worker_id})
            self.replicas.failed(tried.worker_id)
        if judgement.report is not None:
            report = WorkerReport(
                kind=judgement.report, detail=tried.detail[:500], request_id=record.request_id
            )
            self.reports.tell(tried.worker_id, report)

    @staticmethod
    async def _send_error(error: ErrorAnswer, record: Record, send: Send) -> bytes:
        record.status, record.error = error.status, error.code or "error"
        fields = [*error.headers(), (b"x-request-id", record.request_id.encode())]
        if record.model is not None:
            fields.append((MODEL_HEADER, record.model.encode()))
        await send({"type": "http.response.start", "status": error.status, "headers": fields})
        return error.body


def _goes_on(call: Call, response: UpstreamResponse) -> bool:
    """Whether it is an answer from where it was asked for: the start, as a rule."""
    if not isinstance(call.request, Continuation):
        return True
    streams = is_event_stream(headers.value_of(response.headers, b"content-type"))
    return streams and call.request.continued_by(response.headers)


async def tell_stopping(passed: Passed, send: Send) -> None:
    """Either the client left, and what is sent goes nowhere, or the gateway has to end."""
    if passed.events is not None and not passed.events.done:
        stopping = Unavailable("The gateway is being stopped; ask again.", retry_after_s=1)
        await _send_part(send, error_event(stopping))


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
