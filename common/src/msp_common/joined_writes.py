"""An answer's head, sent together with what follows it at once.

uvicorn writes head and body apart. Each write is a system call, and to the client a packet of its own: for a
short answer they cost more than everything else that the server does.
"""

import asyncio
from typing import Protocol

LARGE_BYTES = 64 * 1024
"""Bodies from here on are not copied for it."""


class Answer(Protocol):
    """What writes to a transport: uvicorn's cycle of one request and its answer."""

    transport: asyncio.Transport


class JoinedWrites:
    """Stands between an answer and its connection's transport until the answer's head is sent."""

    __slots__ = ("_answer", "_head", "_holds", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._answer: Answer | None = None
        self._holds = False
        self._head: bytes | None = None

    def begin(self, answer: Answer) -> None:
        """An answer begins: what it writes first is held back until the loop's next turn at most."""
        self.flush()
        self._answer, self._holds = answer, True
        answer.transport = self  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        """As the transport's."""
        if self._holds:
            self._holds, self._head = False, data
            self._loop.call_soon(self.flush)
            return
        head = self._let_go()
        if head is None:
            self._transport.write(data)
        elif len(data) < LARGE_BYTES:
            self._transport.write(head + data)
        else:
            self._transport.writelines((head, data))

    def flush(self) -> None:
        """Write what is held back."""
        head = self._let_go()
        if head is not None and not self._transport.is_closing():
            self._transport.write(head)

    def close(self) -> None:
        """As the transport's: what was written before goes out yet."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """As the transport's."""
        return self._transport.is_closing()

    def _let_go(self) -> bytes | None:
        """What is held back, if anything; from then on the answer writes to the transport itself."""
        head, self._head = self._head, None
        if head is not None and self._answer is not None:
            self._answer.transport, self._answer = self._transport, None
        return head
