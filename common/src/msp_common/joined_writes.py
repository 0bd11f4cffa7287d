"""An answer's head, sent together with what follows it at once.

uvicorn writes head and body apart. Each write is a system call, and to the client a packet of its own: for a
short answer they cost more than everything else that the server does.
"""

import asyncio

LARGE_BYTES = 64 * 1024
"""Bodies from here on are not copied for it."""


class JoinedWrites:
    """Stands before a connection's transport; the answers of the connection write here."""

    __slots__ = ("_head", "_holds", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._holds = False
        self._head: bytes | None = None

    def begin(self) -> None:
        """An answer begins: what is written first is held back until the loop's next turn at most."""
        self.flush()
        self._holds = True

    def write(self, data: bytes) -> None:
        """As the transport's."""
        head = self._head
        if self._holds:
            self._holds, self._head = False, data
            self._loop.call_soon(self.flush)
        elif head is None:
            self._transport.write(data)
        else:
            self._head = None
            if len(data) < LARGE_BYTES:
                self._transport.write(head + data)
            else:
                self._transport.writelines((head, data))

    def flush(self) -> None:
        """Write what is held back."""
        head, self._head = self._head, None
        if head is not None and not self._transport.is_closing():
            self._transport.write(head)

    def close(self) -> None:
        """As the transport's: what was written before goes out yet."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """As the transport's."""
        return self._transport.is_closing()
