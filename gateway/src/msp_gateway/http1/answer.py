"""A connection's answers out of its bytes, one after the other. Knows no sockets.

Strict, as what a worker says is judged: two lengths, an unknown coding or an endless head are no HTTP.
"""

import httptools

from msp_gateway.upstream import UpstreamGarbage

MAX_HEAD_BYTES = 64 * 1024
"""Status line and fields, those of skipped informational answers and of trailers included."""

MAX_FIELDS = 256

PIECE_BYTES = 64 * 1024
"""About so much of a body is given at a time."""


class _Surplus(Exception):
    """Bytes after the end of the answer."""


class AnswerParser:
    """Takes bytes, gives status, fields and body. Informational answers (1xx) and trailers are dropped.

    After an answer that leaves it `reusable`, `begin` makes it ready for the next one.
    """

    __slots__ = (
        "_ends_with_connection",
        "_field_bytes",
        "_fields",
        "_head_bytes",
        "_keeps_alive",
        "_parser",
        "_parts",
        "buffered_bytes",
        "complete",
        "head_done",
        "headers",
        "received",
        "status",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """An answer is to come; nothing of the one before is left."""
        self._parts: list[bytes] = []
        self._head_bytes = self._field_bytes = self._fields = self.status = self.buffered_bytes = 0
        self._keeps_alive = self._ends_with_connection = self.head_done = self.complete = False
        self.received = False
        """Whether any byte came at all."""
        self.headers: list[tuple[bytes, bytes]] = []

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another exchange: the answer is whole, and nothing followed it."""
        return self.complete and self._keeps_alive

    @property
    def exhausted(self) -> bool:
        """Whether the answer is whole and all of its body has been taken."""
        return self.complete and not self.buffered_bytes

    def feed(self, data: bytes) -> None:
        """Take bytes as they came. Raises UpstreamGarbage."""
        self.received = True
        if self.complete or self._parser is None:
            self._keeps_alive = False  # surplus
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keeps_alive = False
            if not self.complete:
                cause = error.__context__ if isinstance(error.__context__, UpstreamGarbage) else error
                raise UpstreamGarbage(str(cause) or type(cause).__name__) from None
        if not self.head_done:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise UpstreamGarbage(f"the head of the answer is longer than {MAX_HEAD_BYTES} bytes")

    def end(self) -> bool:
        """The connection has ended. True if that is the answer's regular end."""
        if self.head_done and self._ends_with_connection:
            self.complete = True
        return self.complete

    def discard(self) -> None:
        """No answer is to come. Parser and callbacks refer to each other: leave nothing to the collector."""
        self._parser = None

    def take(self) -> bytes:
        """The body's bytes that are there, but little more than 64 KiB; empty when there are none."""
        parts = self._parts
        if len(parts) == 1:
            self.buffered_bytes = 0
            return parts.pop()
        if self.buffered_bytes <= PIECE_BYTES:
            taken = b"".join(parts)
            parts.clear()
        else:
            # In one piece it would wait whole in the buffer of a client that reads slowly.
            size = count = 0
            while size < PIECE_BYTES:
                size += len(parts[count])
                count += 1
            taken = b"".join(parts[:count])
            del parts[:count]
        self.buffered_bytes -= len(taken)
        return taken

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self.complete:
            raise _Surplus

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for trailers too."""
        self._fields += 1
        self._field_bytes += len(name) + len(value)
        if self._fields > MAX_FIELDS or self._field_bytes > MAX_HEAD_BYTES:
            raise UpstreamGarbage(
                f"the answer has more than {MAX_FIELDS} fields, or more than {MAX_HEAD_BYTES} bytes of them"
            )
        if not self.head_done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        assert self._parser is not None  # noqa: S101
        status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if status == 101 or not 100 <= status < 600 or version not in ("1.1", "1.0"):
            raise UpstreamGarbage(f"HTTP/{version} with status {status}")
        if status < 200:
            self.headers = []
            return
        self.status = status
        self._ends_with_connection = status not in (204, 304)
        for name, value in self.headers:
            if name == b"transfer-encoding":
                # Any other coding would have to be undone here, since it ends at this connection.
                if value.strip().lower() != b"chunked":
                    raise UpstreamGarbage(f"transfer-encoding {value[:50]!r}")
                self._ends_with_connection = False
            elif name == b"content-length":
                self._ends_with_connection = False
        self._keeps_alive = self._parser.should_keep_alive()
        self.head_done = True

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._parts.append(data)
        self.buffered_bytes += len(data)

    def on_message_complete(self) -> None:
        """Called by the parser, for informational answers too."""
        if self.head_done:
            self.complete = True
