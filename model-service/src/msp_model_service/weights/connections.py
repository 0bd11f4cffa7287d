"""Kept connections for bulk bytes.

Not httpx, which everything else here uses: its parser hands on 64 KiB at a time in Python, and takes four
times the processor time of http.client for the same bytes. With eight downloads at once that is what limits.
"""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from msp_common.tls import forgiving

_CONNECT_S = 10.0
_STALL_S = 60.0
_REDIRECTS = 5
_READ_BYTES = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"
"""Characters of an address that are sent as they are; a signed one must arrive byte for byte."""
_REDIRECTION = frozenset({301, 302, 303, 307, 308})


class BrokenOff(Exception):
    """The bytes stopped coming, or did not begin to; the message says how."""


class NotAllowed(BrokenOff):
    """The address was refused as one whose time is over: 401, 403 or 410."""


class Body:
    """An answer's bytes."""

    def __init__(
        self, answer: http.client.HTTPResponse, start: int, total: int | None, *, whole: bool
    ) -> None:
        self.whole = whole
        """Whether it is the whole file, asked for or not."""
        self.start = start
        """Offset of the first byte: what was asked for, or 0 where the server ignores ranges."""
        self.total = total
        """Length of the whole file by the server's word, if it says one."""
        self._answer = answer

    def read(self) -> bytes:
        """What has arrived, at least one byte; empty at the end. Raises BrokenOff."""
        try:
            # As they arrive: gathered into larger chunks, what a broken connection brought would be lost.
            return self._answer.read1(_READ_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenOff(_what(error)) from error


class Connections:
    """Connections to any number of servers. Calls block, and may come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._tls: ssl.SSLContext | None = None

    @contextmanager
    def get(self, url: str, start: int, end: int | None) -> Iterator[Body]:
        """The bytes from `start` up to `end` (not included); `end=None`: the whole file, without a range.

        Raises BrokenOff, or NotAllowed.
        """
        # A compressed body would have neither this length nor these offsets.
        headers = {"Accept-Encoding": "identity"}
        if end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
        for _ in range(_REDIRECTS + 1):
            address = _parsed(url)
            connection, answer = self._asked(address, headers)
            try:
                if answer.status in _REDIRECTION:
                    url = _joined(url, answer.headers.get("Location", ""))
                    continue
                yield _body(answer, start)
                return
            finally:
                self._give_back(address, connection, answer)
        raise BrokenOff(f"answered with more than {_REDIRECTS} redirects")

    def abort(self) -> None:
        """Break off everything under way, from another thread: readers get BrokenOff or an early end."""
        with self._lock:
            for connection in self._busy:
                if connection.sock is not None:
                    try:
                        connection.sock.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        continue  # the other side was faster

    def close(self) -> None:
        """Close what is not in use."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connection in (c for kept in idle.values() for c in kept):
            connection.close()

    def _asked(
        self, address: SplitResult, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        target = quote((address.path or "/") + (f"?{address.query}" if address.query else ""), safe=_AS_IT_IS)
        while True:
            connection, kept = self._take(address)
            try:
                if not kept:
                    connection.connect()
                    connection.sock.settimeout(_STALL_S)
                connection.request("GET", target, headers=headers)
                return connection, connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self._drop(connection)
                # A server may close a kept connection at any moment; that says nothing of it.
                if not kept or isinstance(error, TimeoutError):
                    raise BrokenOff(_what(error)) from error

    def _take(self, address: SplitResult) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            idle = self._idle.get((address.scheme, address.netloc))
            kept = bool(idle)
            connection = idle.pop() if idle else self._new(address)
            self._busy.add(connection)
            return connection, kept

    def _new(self, address: SplitResult) -> http.client.HTTPConnection:
        host = address.hostname or ""
        if address.scheme == "http":
            return http.client.HTTPConnection(host, address.port, timeout=_CONNECT_S)
        self._tls = self._tls or forgiving(ssl.create_default_context())
        return http.client.HTTPSConnection(host, address.port, timeout=_CONNECT_S, context=self._tls)

    def _give_back(
        self, address: SplitResult, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> None:
        at_end = answer.isclosed() or answer.length == 0
        answer.close()
        if not at_end or connection.sock is None:  # unread bytes would be taken for the next answer
            self._drop(connection)
            return
        with self._lock:
            self._busy.discard(connection)
            self._idle.setdefault((address.scheme, address.netloc), []).append(connection)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.close()


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # no address, as `_parsed` will find


def _parsed(url: str) -> SplitResult:
    try:
        address = urlsplit(url)
        fine = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise BrokenOff(f"the address {url[:200]!r} is none of http or https")
    return address


def _body(answer: http.client.HTTPResponse, start: int) -> Body:
    if answer.status == 200:
        return Body(answer, 0, answer.length, whole=True)
    given = answer.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.match(given)
    if answer.status == 206 and match and int(match[1]) == start:
        return Body(answer, start, int(match[2]), whole=False)
    if answer.status in (401, 403, 410):
        raise NotAllowed(f"answered {answer.status}")
    raise BrokenOff(f"answered {answer.status} {given}".rstrip())


def _what(error: Exception) -> str:
    return str(error) or type(error).__name__
