"""A name server that knows every name with a domain, and tells who asked for it."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address

from support.dns_messages import Question, read_question, write_answer

_FIRST = IPv4Address("198.18.0.1")
"""Of a range for measurements (RFC 2544), which nobody has."""


class NameServer:
    """Answers on a UDP and on a TCP socket; `asked` is told of each question before its answer is sent."""

    def __init__(
        self, udp: socket.socket, tcp: socket.socket, asked: Callable[[str, Question], None]
    ) -> None:
        self._udp, self._tcp, self._asked = udp, tcp, asked
        self._lock = threading.Lock()
        self._addresses: dict[str, IPv4Address] = {}
        self._ends = threading.Event()
        udp.settimeout(0.2)
        tcp.settimeout(0.2)
        self._threads = [
            threading.Thread(target=serve, daemon=True) for serve in (self._datagrams, self._streams)
        ]
        for thread in self._threads:
            thread.start()

    def name_of(self, address: object) -> str | None:
        """The name that was answered with this address."""
        with self._lock:
            return next((name for name, given in self._addresses.items() if given == address), None)

    def close(self) -> None:
        """Ends the server."""
        self._ends.set()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _datagrams(self) -> None:
        while not self._ends.is_set():
            with suppress(TimeoutError):
                message, origin = self._udp.recvfrom(4096)
                answer = self._answer(origin[0], message)
                if answer:
                    self._udp.sendto(answer, origin)

    def _streams(self) -> None:
        while not self._ends.is_set():
            with suppress(OSError):
                connection, origin = self._tcp.accept()
                with connection:
                    connection.settimeout(2)
                    length = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL).rjust(2, b"\0"))[0]
                    answer = self._answer(origin[0], connection.recv(length, socket.MSG_WAITALL))
                    if answer:
                        connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, origin: str, message: bytes) -> bytes | None:
        question = read_question(message)
        if question is None:
            return None
        self._asked(origin, question)
        # No host outside has a name without a domain: it is a service's that is down, and stays unknown.
        if "." not in question.name or question.kind == "PTR":
            return write_answer(question, None)
        with self._lock:
            given = self._addresses.setdefault(question.name.lower(), _FIRST + len(self._addresses))
        return write_answer(question, given)
