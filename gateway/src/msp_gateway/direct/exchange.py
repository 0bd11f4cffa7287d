"""One request on the short way, from the moment it was sent to a worker."""

import asyncio
import logging
from collections.abc import Callable

from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from msp_common.logs import REQUEST_ID
from msp_gateway.admission import Outgoing, Place
from msp_gateway.direct.client_answer import ClientAnswer
from msp_gateway.direct.ordinary import GoOrdinary, rest_of
from msp_gateway.failures import FailedTry, Happened
from msp_gateway.http1.client import Sent
from msp_gateway.passing import Passed
from msp_gateway.pipeline import Begun, Passage, Pipeline, Work
from msp_gateway.relay import tell_stopping

GOOD = 200
"""Any other status is looked at on the ordinary way."""

log = logging.getLogger(__name__)


class Exchange:
    """Passes the answer on as it comes. Ends well, or is handed over, or is abandoned by its client."""

    __slots__ = (
        "_answer",
        "_begun",
        "_closed",
        "_connection",
        "_cycle",
        "_go_ordinary",
        "_head",
        "_on_over",
        "_over",
        "_part_of",
        "_passage",
        "_passed",
        "_pipeline",
        "_place",
        "_sent",
        "_watch",
        "_worker",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        passage: Passage,
        place: Place,
        begun: Begun,
        sent: Sent,
        cycle: RequestResponseCycle,
        go_ordinary: GoOrdinary,
        on_over: Callable[["Exchange"], None],
    ) -> None:
        """`go_ordinary` lets the ordinary way do the rest; `on_over` is told when nothing is left to do."""
        self._pipeline = pipeline
        self._passage = passage
        self._place = place
        self._begun = begun
        self._sent = sent
        self._cycle = cycle
        self._go_ordinary = go_ordinary
        self._on_over = on_over
        self._answer = ClientAnswer(cycle)
        self._passed: Passed | None = None
        self._over: asyncio.Future[None] | None = None
        self._closed = False
        self._worker = begun.candidates[0].worker
        self._connection = sent.connection
        self._head = sent.connection.answer
        self._part_of: Callable[[bytes], bytes] | None = None
        self._watch = pipeline.relay.watchdog.over_exchange(self._worker.id, self._connection.fail)
        self._connection.on_change(self.go_on)

    def go_on(self) -> None:
        """Pass on what came from the worker, unless the client is slow: then the worker is held back, too."""
        try:
            if self._part_of is None and not self._begin():
                return
            head, connection, part_of = self._head, self._connection, self._part_of
            assert part_of is not None  # noqa: S101
            flow = self._cycle.flow
            # What is in this loop is done for every event of a stream.
            while not flow.write_paused:
                if not head.buffered_bytes:
                    if head.complete:
                        self._end(b"")
                    elif connection.error is not None:
                        self._broke(connection.error)
                    return
                part = part_of(head.take())
                if connection.reading_paused:
                    connection.read_on()
                if head.complete and not head.buffered_bytes:
                    self._end(part)
                    return
                self._watch.heard()
                self._answer.part(part)
            self._watch.rests()
        except Exception:
            # A mistake of ours: the client must not wait for ever, nor the books stay open.
            log.exception("the relay broke", extra={"request_id": self._passage.record.request_id})
            self._passage.record.status = self._passage.record.status or 500
            try:
                self._close()
            finally:
                self._cycle.transport.abort()

    def client_reads_on(self) -> None:
        """The client was slow, and takes more now."""
        self._watch.waits()
        self.go_on()

    def client_left(self) -> None:
        """The client's connection has ended."""
        if self._closed:
            return
        record = self._passage.record
        record.failed.append(FailedTry(Happened.CLIENT_LEFT, self._worker.id, self._worker.lease.model.id))
        self._close()

    async def until_over(self) -> None:
        """Wait for the end, on whatever way. Cancelling makes one at once: the server has to stop."""
        self._over = asyncio.get_running_loop().create_future()
        try:
            await self._over
        except asyncio.CancelledError:
            if self._over.cancelled() and not self._closed:
                self._stop()
            raise

    def _begin(self) -> bool:
        """Whether the first byte of a good answer is there; if so, the client's answer begins."""
        head, error = self._head, self._connection.error
        if not (head.head_done and (head.buffered_bytes or head.complete)):
            if error is not None:
                self._hand_over_beginning()
            return False
        if head.status != GOOD:
            self._hand_over_beginning()
            return False
        relay, record = self._pipeline.relay, self._passage.record
        self._passed, fields = relay.begin(self._begun.call, self._worker, head, record)
        self._part_of = self._passed.of_next
        self._watch.answered(self._passed.events is not None)
        self._answer.begin(GOOD, [*fields, *self._place.fields])
        return True

    def _end(self, last: bytes) -> None:
        passed = self._passed
        assert passed is not None  # noqa: S101
        if passed.events is not None:
            last += passed.events.rest()
        self._answer.end(last)
        self._passage.record.complete = True
        self._pipeline.relay.went_well(self._worker, self._passage.record)
        self._close()
        self._answer.over()

    def _broke(self, error: Exception) -> None:
        passed = self._passed
        assert passed is not None  # noqa: S101
        relay, call, record = self._pipeline.relay, self._begun.call, self._passage.record
        # What calls this belongs to the worker's connection, which an earlier request has made.
        token = REQUEST_ID.set(record.request_id)
        try:
            relay.broke(passed, error, record)
            relay.heard_out(passed, record)
        finally:
            REQUEST_ID.reset(token)
        self._end_exchange()
        self._sent.close()
        if passed.kept is not None and passed.whole:
            passed.kept.forget()
        relay.replicas.ended(self._worker.id)
        self._answer.part(b"")
        place = self._place

        async def work(passage: Passage, receive: Receive, out: Outgoing) -> None:
            await self._pipeline.go_on_broken(passage, place, call, passed, receive, out)

        self._hand_over(work)

    def _hand_over_beginning(self) -> None:
        """It is no good answer so far: the ordinary way looks at it, and asks others."""
        self._end_exchange()
        begun, place = self._begun, self._place
        begun.sent = self._sent

        async def work(passage: Passage, receive: Receive, out: Outgoing) -> None:
            await self._pipeline.go_on(passage, place, receive, out, begun)

        self._hand_over(work)

    def _stop(self) -> None:
        passed = self._passed
        if passed is not None:
            self._answer.part(b"")
        self._end_exchange()
        self._sent.close()
        self._pipeline.relay.replicas.ended(self._worker.id)
        self._place.give_back()

        async def work(passage: Passage, receive: Receive, out: Outgoing) -> None:
            if passed is not None:
                await tell_stopping(passed, out)
            raise asyncio.CancelledError

        self._hand_over(work)

    def _close(self) -> None:
        """Nothing more is passed on: all that was held for the request is given up, once."""
        if self._closed:
            return
        self._closed = True
        self._end_exchange()
        if self._passed is not None:
            self._pipeline.relay.heard_out(self._passed, self._passage.record)
        self._sent.close()
        if self._passed is not None and self._passed.kept is not None:
            self._passed.kept.forget()
        self._pipeline.relay.replicas.ended(self._worker.id)
        try:
            self._place.give_back()
        finally:
            self._pipeline.close(self._passage)
            self._tell_over()

    def _hand_over(self, work: Work) -> None:
        """What is left is done on the ordinary way."""
        self._closed = True

        async def rest(passage: Passage, receive: Receive, out: Outgoing) -> None:
            try:
                await work(passage, receive, out)
            finally:
                self._tell_over()

        self._go_ordinary(rest_of(self._pipeline, self._passage, rest))

    def _end_exchange(self) -> None:
        self._watch.end()
        self._connection.on_change(None)
        self._on_over(self)

    def _tell_over(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
