"""An answer as it is written onto a client's connection."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from msp_common.joined_writes import LARGE_BYTES
from msp_gateway.upstream import RawHeaders


class ClientAnswer:
    """Writes what uvicorn's cycle of a request would, and leaves it as if the cycle had written it.

    So the cycle can go on with the answer at any time.
    """

    __slots__ = ("_chunked", "_cycle", "_head")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head = b""
        self._chunked = False

    def begin(self, status: int, fields: RawHeaders) -> None:
        """The head; it is sent with what comes next. The fields come from a parser: they hold no line end."""
        cycle = self._cycle
        cycle.response_started = True
        lines = [*map(b": ".join, cycle.default_headers), *map(b": ".join, fields)]
        if not cycle.keep_alive:
            lines.append(b"connection: close")
        chunked = b"content-length" not in dict(fields)
        if chunked:
            lines.append(b"transfer-encoding: chunked")
        self._head = STATUS_LINE[status] + b"\r\n".join([*lines, b"", b""])
        self._chunked = cycle.chunked_encoding = chunked

    def part(self, body: bytes) -> None:
        """Send more of the body; without any, at least the head."""
        if self._chunked and body:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        if self._head:
            self._send(body)
        elif body:
            self._cycle.transport.write(body)

    def end(self, body: bytes) -> None:
        """Send the rest of the body. `over` is to follow."""
        if self._chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        self._send(body)

    def over(self) -> None:
        """Let the connection's next request begin."""
        cycle = self._cycle
        cycle.response_complete = True
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def _send(self, body: bytes) -> None:
        head, self._head = self._head, b""
        if len(body) < LARGE_BYTES:
            self._cycle.transport.write(head + body)
        else:
            self._cycle.transport.writelines((head, body))
