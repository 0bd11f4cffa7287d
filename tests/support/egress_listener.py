"""Takes every connection and reads which host it was meant for: TLS's server name, or HTTP's `Host`."""

import socket
import ssl
import threading
from contextlib import suppress

_PATIENCE_S = 1.0


def host_in(data: bytes) -> str | None:
    """The host that a client's first bytes name."""
    if data[:1] == b"\x16":
        return _server_name(data)
    for line in data.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"host":
            return value.strip().decode("latin-1")
    return None


def _server_name(hello: bytes) -> str | None:
    told: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, name, __: told.append(name)
    incoming = ssl.MemoryBIO()
    incoming.write(hello)
    # Without a certificate no handshake succeeds; the name is told before that.
    with suppress(ssl.SSLError):
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return told[0] if told else None


class HostListener:
    """Accepts on a socket; remembers the host by the address and port of whoever connected."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._hosts: dict[tuple[str, int], str | None] = {}
        self._reading: list[threading.Thread] = []
        self._ends = threading.Event()
        server.settimeout(0.2)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def host(self, address: str, port: int) -> str | None:
        """Waits for those that are being read."""
        for thread in list(self._reading):
            thread.join(_PATIENCE_S)
        return self._hosts.get((address, port))

    def close(self) -> None:
        """Ends the listener."""
        self._ends.set()
        self._thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self._ends.is_set():
            with suppress(TimeoutError):
                connection, origin = self._server.accept()
                thread = threading.Thread(target=self._read, args=(connection, origin[:2]), daemon=True)
                self._reading.append(thread)
                thread.start()

    def _read(self, connection: socket.socket, origin: tuple[str, int]) -> None:
        with connection, suppress(OSError):
            connection.settimeout(_PATIENCE_S)
            self._hosts[origin] = host_in(connection.recv(4096))
