"""Asks one replica after the other until one answers, and passes its answer on as it arrives."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec
from starlette.types import Send

from msp_common.contracts.workers import ReportKind, Verdict, Worker, WorkerReport
from msp_common.errors import ApiError, Unavailable, UpstreamFailed, UpstreamTimeout
from msp_gateway import failures, headers
from msp_gateway.error_answers import ErrorAnswer, read_error
from msp_gateway.events import EventStream, error_event, is_event_stream
from msp_gateway.external_servers import name_there, with_key
from msp_gateway.failures import JUDGEMENTS, FailedTry, Fault, Happened, Lack
from msp_gateway.head import ClientRequest
from msp_gateway.record import Moments, Record
from msp_gateway.replicas import Replicas
from msp_gateway.reports import Reports
from msp_gateway.resume.continuation import Continuation
from msp_gateway.resume.kept import Kept
from msp_gateway.resume.resuming import ASKS, Outcome, Resuming
from msp_gateway.upstream import (
    RawHeaders,
    Upstream,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamRequest,
    UpstreamResponse,
)
from msp_gateway.watchdog import Stood, Watchdog

MAX_ERROR_BYTES = 256 * 1024
"""An error's body is read up to here before it is passed on."""

MODEL_HEADER = b"x-msp-model"
"""Names the model that answered, which need not be the one that was asked for."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Call:
    """One request as it goes to workers: the path, the fields that go on, and the client's bytes."""

    path: str
    headers: RawHeaders
    request: ClientRequest


@dataclass(frozen=True)
class Candidate:
    """A replica that may be asked; `stands_in_for` as of its model's `Choice`."""

    worker: Worker
    stands_in_for: frozenset[Lack] | None = None

    @cached_property
    def seen(self) -> tuple[str, str, str]:
        """Worker, model and verdict."""
        return self.worker.id, self.worker.lease.model.id, self.worker.verdict.value


@dataclass(slots=True, eq=False)
class Answer:
    """A good answer of which at least the first byte has arrived. Closing the response ends the exchange."""

    worker: Worker
    response: UpstreamResponse
    first: bytes


@dataclass(slots=True, eq=False)
class _Miss:
    """A try without a good answer; `error` is what the worker answered instead, if it did."""

    tried: FailedTry
    error: ErrorAnswer | None = None


@dataclass(slots=True, eq=False)
class _Passed:
    """What was passed on of an answer so far."""

    worker: Worker
    events: EventStream | None
    kept: Kept | None = None
    """Where the stream is one that another replica may go on with."""
    broken: Happened | None = None
    """Why it ended too early."""
    last: bytes = b""
    """What of it is to be sent yet, with the answer's end."""

    @property
    def whole(self) -> bool:
        """Whether the client has all that it waits for."""
        return self.broken is None or (self.events is not None and self.events.done)

    @property
    def of_next(self) -> Callable[[bytes], bytes]:
        """`next`, or what alone it would call."""
        return self.events.feed if self.events is not None and self.kept is None else self.next

    def next(self, chunk: bytes) -> bytes:
        """What of the worker's next bytes is to be sent."""
        passed = self.events.feed(chunk) if self.events is not None else chunk
        if self.kept is not None:
            self.kept.add(passed)
        return passed


@dataclass(frozen=True)
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
    resuming: Resuming | None = None
    """How streams are gone on with whose worker died; without it they end with an error."""

    async def run(
        self, call: Call, candidates: Sequence[Candidate], record: Record, send: Send
    ) -> bytes | None:
        """Send an answer, but for its end: the last bytes, to be sent with it, are what is returned.

        None if it broke off, so that no end may be sent.

        The record's `failed`, `model`, `worker`, `status` and `first_byte` are filled in. Raises ApiError
        when no replica answered at all; nothing has been sent then.
        """
        misses: list[_Miss] = []
        for candidate in candidates:
            worker = candidate.worker
            if not failures.may_ask(worker.lease.model.id, candidate.stands_in_for, record.failed):
                continue
            if misses and not self._still_routable(worker):
                continue
            result = await self._try(call, worker, record, send)
            if isinstance(result, _Passed):
                done = result.whole or await self._after_break(call, result, record, send)
                return result.last if done else None
            misses.append(result)
        return await self._send_error(_last_word(misses), record, send)

    async def _try(self, call: Call, worker: Worker, record: Record, send: Send) -> _Passed | _Miss:
        """Ask one replica, and pass on what it answers. A miss is noted in the record."""
        self.moments.asks(record, worker.id, worker.lease.model.id)
        self.replicas.started(worker.id)
        try:
            result = await self._ask(call, worker)
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

    async def _ask(self, call: Call, worker: Worker) -> Answer | _Miss:
        fields = with_key(worker, call.headers, self.environ)
        if self.resuming is not None and self.resuming.wants(call.path, call.request, worker):
            fields = [*fields, ASKS]
        request = UpstreamRequest(
            url=f"{worker.lease.url}{call.path}",
            headers=fields,
            body=call.request.body_for(name_there(worker)),
        )
        response = None
        try:
            with self.watchdog.over_beginning(worker.id):
                response = await self.upstream.open(request)
                what = failures.of_status(
                    response.status,
                    has_retry_after=headers.value_of(response.headers, b"retry-after") is not None,
                    external=worker.external is not None,
                )
                if what is None and not _goes_on(call, response):
                    return _miss(worker, Happened.CLIENT_ERROR, "the worker does not know 'continue'")
                if what is None:
                    # Also an empty body is an answer.
                    answer = Answer(worker, response, await response.read())
                    response = None
                    return answer
                error = await _error_answer(what, response)
                if response.status == 400:
                    takes = worker.lease.capabilities.input_modalities
                    what = failures.of_refusal(error.code, error.param, takes)
                return _miss(worker, what, f"status {response.status}", error)
        except UpstreamRefused as refused:
            newest = self.newest(worker.id)
            return _miss(worker, failures.of_no_connection(newest.verdict if newest else None), str(refused))
        except UpstreamGarbage as garbage:
            return _miss(worker, Happened.GARBAGE, str(garbage))
        except UpstreamError as broken:
            return _miss(worker, Happened.RESET, str(broken))
        except Stood as stood:
            return _miss(worker, stood.what, str(stood))
        finally:
            if response is not None:
                response.close()

    async def _pass_on(self, call: Call, answer: Answer, record: Record, send: Send) -> _Passed:
        """Send its head, unless it goes on with another answer, and its body as far as it comes."""
        worker = answer.worker
        fields = headers.for_client(answer.response.headers, record.request_id)
        streams = is_event_stream(headers.value_of(fields, b"content-type"))
        passed = _Passed(worker, EventStream() if streams else None)
        if not isinstance(call.request, Continuation):
            self.moments.first_byte(record)
            record.status = answer.response.status
            fields.append((MODEL_HEADER, worker.lease.model.id.encode()))
            await send({"type": "http.response.start", "status": record.status, "headers": fields})
            if self.resuming is not None and streams and self.resuming.wants(call.path, call.request, worker):
                passed.kept = self.resuming.room.stream()
        try:
            if answer.response.ended:
                passed.last = passed.next(answer.first)
            else:
                if part := passed.next(answer.first):
                    await _send_part(send, part)
                # What is in this loop is done for every event of a stream.
                read, part_of = answer.response.read, passed.of_next
                with self.watchdog.over_rest(worker.id, streams=streams) as watch:
                    while chunk := await read():
                        watch.arrived()
                        if part := part_of(chunk):
                            await send({"type": "http.response.body", "body": part, "more_body": True})
                        watch.waits()
        except (UpstreamError, Stood) as error:
            passed.broken = error.what if isinstance(error, Stood) else Happened.BROKEN_OFF
            tried = FailedTry(passed.broken, worker.id, worker.lease.model.id, str(error))
            record.failed.append(tried)
            self._judge(tried, record)
            return passed
        except asyncio.CancelledError:
            await _tell_stopping(passed, send)
            raise
        finally:
            if passed.kept is not None and passed.whole:
                passed.kept.forget()
        if passed.events is not None:
            passed.last += passed.events.rest()
        if self.replicas.answered(worker.id) or worker.verdict is Verdict.SUSPECT:
            self.reports.tell(worker.id, WorkerReport(kind=ReportKind.OK, request_id=record.request_id))
        return passed

    async def _after_break(self, call: Call, passed: _Passed, record: Record, send: Send) -> bool:
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
        await _send_part(send, error_event(_broken_off(passed.broken)))
        return False

    async def _go_on(
        self, call: Call, request: Continuation, worker: Worker, record: Record, send: Send
    ) -> bool:
        """Whether the replica brought the stream to its end."""
        result = await self._try(replace(call, request=request), worker, record, send)
        if not isinstance(result, _Passed):
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


def _miss(worker: Worker, what: Happened, detail: str, error: ErrorAnswer | None = None) -> _Miss:
    return _Miss(FailedTry(what, worker.id, worker.lease.model.id, detail), error)


def _goes_on(call: Call, response: UpstreamResponse) -> bool:
    """Whether it is an answer from where it was asked for: the start, as a rule."""
    if not isinstance(call.request, Continuation):
        return True
    streams = is_event_stream(headers.value_of(response.headers, b"content-type"))
    return streams and call.request.continued_by(response.headers)


async def _tell_stopping(passed: _Passed, send: Send) -> None:
    """Either the client left, and what is sent goes nowhere, or the gateway has to end."""
    if passed.events is not None and not passed.events.done:
        stopping = Unavailable("The gateway is being stopped; ask again.", retry_after_s=1)
        await _send_part(send, error_event(stopping))


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _error_answer(what: Happened, response: UpstreamResponse) -> ErrorAnswer:
    if what is Happened.SERVER_ERROR and response.status < 500:
        refused = UpstreamFailed("The model's server refuses the gateway; its log says why.")
        return ErrorAnswer(502, msgspec.json.encode(refused.envelope()), should_retry=False)
    body = b""
    while chunk := await response.read():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    error = read_error(response.status, body)
    return replace(
        error,
        retry_after=headers.value_of(response.headers, b"retry-after"),
        # Another replica has been tried already, if there is one: repeating it would only double the work.
        should_retry=False if what is Happened.SERVER_ERROR else None,
    )


def _broken_off(what: Happened) -> ApiError:
    if what is Happened.BROKEN_OFF:
        return UpstreamFailed("The model's worker broke off its answer.")
    return UpstreamTimeout("The model's worker stopped in the middle of its answer.")


def _last_word(misses: Sequence[_Miss]) -> ErrorAnswer:
    """What the client is told when no try brought a good answer: the gravest of what happened.

    Back-pressure invites clients to come again, so it is told only where no worker may have been harmed by
    the request, nor be at work on it still; and a model's limits only where no other could have done better.
    Raises ApiError where the worker gave no error to pass on.
    """
    happened = {miss.tried.what for miss in misses}
    if happened & {Happened.NO_FIRST_BYTE, Happened.STALLED}:
        raise UpstreamTimeout("The model's worker did not begin to answer in time.", should_retry=False)
    for kinds in (
        {Happened.CLIENT_ERROR, Happened.SERVER_ERROR},
        {Happened.BACK_PRESSURE},
        {Happened.TOO_LONG, Happened.WRONG_MODALITY},
    ):
        given = [miss.error for miss in misses if miss.error is not None and miss.tried.what in kinds]
        if given:
            return given[-1]
        if happened & {Happened.RESET, Happened.GARBAGE}:
            raise UpstreamFailed("The workers of the model failed on this request.", should_retry=False)
    raise Unavailable("No worker of the model can be reached.", retry_after_s=1)
