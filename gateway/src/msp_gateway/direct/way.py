"""Which requests take the short way, and how they begin."""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from msp_common.draining import Draining
from msp_gateway.admission import Outgoing, Place
from msp_gateway.admission.outgoing import FIELD as TELL_WAITING
from msp_gateway.batched_writes import WriteBatch
from msp_gateway.direct.exchange import Exchange
from msp_gateway.direct.known_head import RequestHead
from msp_gateway.direct.ordinary import GoOrdinary, failing, raising, rest_of
from msp_gateway.fields import Fields
from msp_gateway.head import JsonRequest
from msp_gateway.http1.client import Sent
from msp_gateway.paths import RelayPath
from msp_gateway.pipeline import Begun, Passage, Pipeline, Work
from msp_gateway.upstream import RawHeaders, UpstreamRequest

MAX_BODY_BYTES = 2 * 1024 * 1024
"""Longer ones are sent to workers as these take them, on the ordinary way."""

STRANGERS_BODY_BYTES = 64 * 1024
"""More than this is not held for whoever has no key: the ordinary way refuses before it reads a body."""

# Of each of these something else takes care, around the ordinary way or in it.
_FOR_OTHERS = frozenset({b"expect", b"origin", b"transfer-encoding", b"upgrade", TELL_WAITING})


class ShortWay:
    """Takes requests from the server, for as long as the program is not being stopped."""

    def __init__(
        self,
        pipeline: Pipeline,
        paths: Mapping[str, RelayPath],
        send: Callable[[UpstreamRequest], Sent | None],
        draining: Draining,
        batch: WriteBatch,
    ) -> None:
        """`send` is as `Http1Upstream.send`; answers are written in `batch`."""
        self.batch = batch
        self._pipeline = pipeline
        self._paths = {path.encode(): relayed for path, relayed in paths.items() if not relayed.multipart}
        self._send = send
        self._draining = draining
        self.max_body_bytes = min(MAX_BODY_BYTES, pipeline.max_body_bytes)
        """What is longer goes the ordinary way."""
        self._exchanges: set[Exchange] = set()

    @property
    def closed(self) -> bool:
        """Whether the program is being stopped."""
        return self._draining.left_s is not None

    def head_of(self, url: bytes, fields: RawHeaders) -> RequestHead | None:
        """The head of a POST over HTTP/1.1, if it may go this way."""
        path = self._paths.get(url)
        if path is None:
            return None
        by_name = Fields(fields)
        length = by_name.get(b"content-length", b"")
        if not (length.isdigit() and _FOR_OTHERS.isdisjoint(by_name)) or self.closed:
            return None
        size = int(length)
        if size > self.max_body_bytes or (size > STRANGERS_BODY_BYTES and not self._knows(by_name)):
            return None
        return RequestHead(path, by_name)

    def begin(
        self,
        head: RequestHead,
        cycle: RequestResponseCycle,
        parts: list[bytes],
        go_ordinary: GoOrdinary,
    ) -> Exchange | None:
        """Begin with a request that is there whole. None where `go_ordinary` was called with what is left."""
        pipeline = self._pipeline
        try:
            path, fields = head
            passage = pipeline.open(path, cycle.scope, fields)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - the parser, which called this, would take it for its own
            go_ordinary(failing(error))
            return None
        place, begun, sent = None, None, None
        try:
            pipeline.authenticate(passage)
            place = pipeline.admit(passage, JsonRequest(parts))
            if place.granted:
                record = passage.record
                record.waited_s = place.waited_s
                begun = Begun(pipeline.call(passage), pipeline.candidates(passage))
                sent = pipeline.relay.send_at_once(begun.call, begun.candidates, record, self._send)
        except Exception as error:  # noqa: BLE001 - a mistake of ours, too, is told and counted there
            if place is not None:
                place.give_back()
            go_ordinary(rest_of(pipeline, passage, raising(error)))
            return None
        if begun is None or sent is None:
            go_ordinary(rest_of(pipeline, passage, self._going_on(place)))
            return None
        exchange = Exchange(pipeline, passage, place, begun, sent, cycle, go_ordinary, self._exchange_over)
        self.batch.begin()
        self._exchanges.add(exchange)
        return exchange

    def still_open(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Something to wait for, for every request that is on this way; cancelling it ends the request."""
        return (exchange.until_over() for exchange in list(self._exchanges))

    def _exchange_over(self, exchange: Exchange) -> None:
        self._exchanges.discard(exchange)
        self.batch.begin()

    def _knows(self, fields: Fields) -> bool:
        try:
            authorization = fields.get(b"authorization", b"")
            self._pipeline.authenticator.authenticate(authorization.decode("latin-1"))
        except Exception:  # noqa: BLE001 - refused, or a mistake of ours: the ordinary way tells
            return False
        return True

    def _going_on(self, place: Place) -> Work:
        async def work(passage: Passage, receive: Receive, out: Outgoing) -> None:
            # Picked anew: others may have been sent to the same replica before a task runs.
            await self._pipeline.go_on(passage, place, receive, out)

        return work
