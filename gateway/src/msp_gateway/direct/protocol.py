"""The server's side of the short way: uvicorn's connection, which asks it before starting a task."""

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from msp_common.http_protocol import ConnectionLimits, LimitedProtocol, limited_by
from msp_gateway.direct.exchange import Exchange
from msp_gateway.direct.known_head import KnownHead, RequestHead, known_head
from msp_gateway.direct.ordinary import Ordinary
from msp_gateway.direct.way import ShortWay


class DirectProtocol(LimitedProtocol):
    """One connection. Use `direct_protocol`, which makes the class for a server."""

    way: ShortWay

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        self._arriving_whole: tuple[RequestHead, RequestResponseCycle] | None = None
        self._parts: list[bytes] = []
        self._exchange: Exchange | None = None
        self._known: KnownHead | None = None
        self._new: bytes | None = None
        """What came last, if a request may begin with it."""
        super().connection_made(self.way.batch.over(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._arriving_whole = None
        super().connection_lost(exc)
        for cycle in (self.cycle, self._running):
            if cycle is not None:
                # It refers to this connection, which refers to it: leave nothing to the collector.
                cycle.on_response = _nothing

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._waits == "request":
            known = self._known
            if known is not None and (request := known.request_in(data, self.way.max_body_bytes)):
                self._take_known(known.scope, request)
                return
            self._new = data
        super().data_received(data)
        self._new = None

    def resume_writing(self) -> None:
        """Called by the transport."""
        super().resume_writing()
        if self._exchange is not None:
            self._exchange.client_reads_on()

    def on_headers_complete(self) -> None:
        """Called by the parser. For requests of this way, what of uvicorn's work they need."""
        busy = self.cycle is not None and not self.cycle.response_complete
        head = None
        if not busy and self.parser.get_method() == b"POST" and self.parser.get_http_version() == "1.1":
            head = self.way.head_of(self.url, self.headers)
        if head is None:
            super().on_headers_complete()
            if self._exchange is not None:
                # uvicorn reads no more while a request waits; then nothing would tell that the client leaves.
                self.flow.resume_reading()
            return
        self._head_is_there()
        scope = self.scope
        scope["method"], scope["path"], scope["raw_path"] = "POST", head.path.path, self.url
        scope["query_string"] = b""
        self.cycle = self._running = _Cycle(self, self.parser.should_keep_alive())
        self._arriving_whole, self._parts = (head, self.cycle), []

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if self._arriving_whole is None:
            super().on_body(body)
        else:
            self._body_came()
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._arriving_whole is None:
            super().on_message_complete()
            return
        self._request_is_there()
        (head, cycle), parts = self._arriving_whole, self._parts
        self._arriving_whole, self._parts = None, []
        if self._new is not None and cycle.keep_alive:
            self._known = known_head(self._new, head, self.scope)
        self._take(head, cycle, parts)

    def on_response_complete(self) -> None:
        """Called at the end of an answer."""
        self._exchange = None
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        head = None
        scope = cycle.scope
        if not cycle.more_body and scope["method"] == "POST" and scope["http_version"] == "1.1":
            # It was sent behind another one, and has arrived meanwhile.
            head = self.way.head_of(scope["raw_path"], list(scope["headers"]))
        if head is None:
            super()._start_asgi_task(cycle, app)
        else:
            self._running = cycle
            self._take(head, cycle, [bytes(cycle.body)])

    def _tell_application(self) -> None:
        super()._tell_application()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()

    def _take_known(self, last: Mapping[str, object], request: tuple[RequestHead, bytes]) -> None:
        """A request with the head of the last one, whose scope this is."""
        head, body = request
        self.scope = {**last, "headers": head.fields.raw, "state": self.app_state.copy()}  # type: ignore[typeddict-item]
        self.cycle = self._running = _Cycle(self, True)
        self._request_is_there()
        self._take(head, self.cycle, [body])

    def _take(self, head: RequestHead, cycle: RequestResponseCycle, parts: list[bytes]) -> None:
        cycle.more_body = False
        if self.transport.is_closing():
            return
        if self.way.closed:
            cycle.body = bytearray(b"".join(parts))
            cycle.message_event.set()
            super()._start_asgi_task(cycle, self.app)
            return

        def go_ordinary(ordinary: Ordinary) -> None:
            self._exchange = None
            super(DirectProtocol, self)._start_asgi_task(cycle, ordinary)

        self._exchange = self.way.begin(head, cycle, parts, go_ordinary)


class _Cycle(RequestResponseCycle):
    """As uvicorn makes it for each request, without an event as long as no task waits for it."""

    def __init__(self, connection: DirectProtocol, keep_alive: bool) -> None:
        self.scope = connection.scope
        self.transport = connection.transport
        self.flow = connection.flow
        self.logger = connection.logger
        self.access_logger = connection.access_logger
        self.access_log = connection.access_log
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self.keep_alive = keep_alive
        self.disconnected = self.waiting_for_100_continue = False
        self.response_started = self.response_complete = False
        self.chunked_encoding = None
        self.expected_content_length = 0
        self.body = bytearray()
        self.more_body = True

    @cached_property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """Set where a task should look again."""
        return asyncio.Event()


def _nothing() -> None:
    """No answer follows."""


def direct_protocol(way: ShortWay, limits: ConnectionLimits) -> type[DirectProtocol]:
    """The class for `uvicorn.Config(http=...)`, for one server."""
    protocol = limited_by(limits, DirectProtocol)
    protocol.way = way
    return protocol
