"""uvicorn's HTTP/1.1 with limits for clients that are slow, silent or endless, and with OpenAI's errors.

uvicorn waits for ever for the rest of a head or of a body, and for a client that does not read, and takes a
head of any size. Its class may be replaced (`Config(http=...)`), but what is overridden here is not promised:
the tests hold it.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

try:
    import httptools
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"cannot start: the package {missing.name} is missing; install the program with all it depends on"
    ) from missing

from msp_common.errors import from_status
from msp_common.joined_writes import JoinedWrites

LONGEST_SWEEP_S = 5.0

_OF_AN_UPGRADE = frozenset({b"upgrade", b"http2-settings"})

P = TypeVar("P", bound="LimitedProtocol")


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may cost. Times are noticed up to a quarter late."""

    head_s: float = 20
    """For a request's head, from its first byte, or from the connection's beginning."""
    body_gap_s: float = 60
    """Between two pieces of a request's body, while it is being read."""
    unread_s: float = 300
    """For a client that has an answer to read and reads nothing of it."""
    head_bytes: int = 64 * 1024
    pipelined: int = 16
    """Requests that wait behind the one being answered."""


Waits = Literal["nothing", "request", "head", "body", "unwanted body"]
"""What the server waits for from the client."""


class _Refused(Exception):
    """Stops the parser; the refusal itself is in the protocol."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Use `limited_by`, which makes the class for a server."""

    limits: ConnectionLimits
    sweeper: "_Sweeper"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        # Not as defaults of the class: what a class has is found slowly in its instances.
        self._waits: Waits = "nothing"
        self._since = 0.0
        self._head_bytes = 0
        self._arriving = 0
        self._beside_body = 0
        self._begun = False
        self._running: RequestResponseCycle | None = None
        self._unsent = 0
        self._unsent_since = 0.0
        self._refusal: tuple[int, str] | None = None
        super().connection_made(transport)
        self._answers = JoinedWrites(transport, self.loop)
        self._wait_for("head")
        self.sweeper.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self.sweeper.remove(self)
        super().connection_lost(exc)
        self._tell_application()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._waits == "body":
            self._since = self.loop.time()
            self._beside_body += len(data)
        self._arriving = len(data)
        self._feed(data)
        if self._waits == "body":
            if self._beside_body > self.limits.head_bytes:
                self._refuse(431, f"More than {self.limits.head_bytes} bytes of trailers.")
        elif self._waits == "head":
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes and not self.transport.is_closing():
                self._refuse(431, f"The head of the request is longer than {self.limits.head_bytes} bytes.")
        elif self._waits == "request":
            self._wait_for("head")  # empty lines between requests, which uvicorn would take for ever

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Read the request once more as if it asked for no other protocol, as RFC 9110 allows (section 7.8).

        Java's HttpClient asks for HTTP/2 with its first request. The parser takes the body of such a request
        for bytes of the other protocol.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(400, "This is no proxy.")
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                kept = (token.strip() for token in value.split(b","))
                value = b", ".join(token for token in kept if token.lower() not in _OF_AN_UPGRADE)
            if name not in _OF_AN_UPGRADE and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join([*lines, b"", rest]))

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self._begun = True
        self._wait_for("head")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self.parser.should_upgrade():
            return  # it is read once more
        self._head_is_there()
        # uvicorn adds trailers to the list that the application has read by then.
        self.scope["headers"] = list(self.headers)
        super().on_headers_complete()

    def _head_is_there(self) -> None:
        """Refuse a head that is too long, and a request too many. Raises what stops the parser."""
        if self._head_bytes + self._arriving > self.limits.head_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.head_bytes:
                self._refusal = 431, f"The head of the request is longer than {self.limits.head_bytes} bytes."
                raise _Refused
        if len(self.pipeline) >= self.limits.pipelined:
            self._refusal = 400, f"More than {self.limits.pipelined} requests are waiting on this connection."
            raise _Refused
        self._wait_for("body")
        self._beside_body = 0

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body_came()
        super().on_body(body)

    def _body_came(self) -> None:
        self._beside_body = 0

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._request_is_there()

    def _request_is_there(self) -> None:
        self._begun = False
        self._waits = "nothing"

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._answers.begin(cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Called by uvicorn at the end of an answer. As uvicorn's, but for a timer for each request."""
        if self._waits == "body":
            self._wait_for("unwanted body")
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._waits == "nothing":
            self._wait_for("request")

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is no HTTP."""
        status, message = self._refusal or (400, msg)
        self._refuse(status, message)

    def check(self, now: float) -> None:
        """End the connection if the client takes too long; called now and then."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > self.limits.unread_s:
            self.transport.abort()
            return
        if self.transport.is_closing() or self._waits == "nothing":
            return
        if self._waits == "body":
            if self.flow.read_paused:
                self._since = now  # the application is the one that takes its time
            elif now - self._since > self.limits.body_gap_s:
                self._refuse(408, f"No byte of the request's body came for {self.limits.body_gap_s:g} s.")
        elif self._waits == "request":
            if now - self._since > self.timeout_keep_alive:
                self.transport.close()
        elif now - self._since > self.limits.head_s:
            if self._begun and self._waits == "head":
                self._refuse(408, f"The head of the request did not end within {self.limits.head_s:g} s.")
            else:
                self.transport.close()

    def _wait_for(self, what: Waits) -> None:
        self._waits, self._since, self._head_bytes = what, self.loop.time(), 0

    def _refuse(self, status: int, message: str) -> None:
        """Answer, unless an answer is on its way already, and close the connection."""
        running = self._running
        if running is None or not running.response_started or running.response_complete:
            body = json.dumps(from_status(status, message).envelope()).encode()
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.close()
        self._tell_application()

    def _tell_application(self) -> None:
        # uvicorn knows only the newest request, which may wait behind the one that is being answered.
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()


class _Sweeper:
    """Looks at all connections of a server now and then: cheaper than a timer for each request."""

    def __init__(self, limits: ConnectionLimits) -> None:
        shortest_s = min(limits.head_s, limits.body_gap_s, limits.unread_s)
        self._every_s = min(LONGEST_SWEEP_S, shortest_s / 4)
        self._connections: set[LimitedProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: LimitedProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self._connections.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(self._every_s, self._sweep, loop)

    def remove(self, connection: LimitedProtocol) -> None:
        self._connections.discard(connection)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._connections):
            connection.check(now)
        self._timer = loop.call_later(self._every_s, self._sweep, loop) if self._connections else None


def limited_by(limits: ConnectionLimits, kind: type[P] = LimitedProtocol) -> type[P]:  # type: ignore[assignment]
    """The class for `uvicorn.Config(http=...)`, for one server."""
    return type(kind.__name__, (kind,), {"limits": limits, "sweeper": _Sweeper(limits)})
