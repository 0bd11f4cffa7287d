"""Connections that wait for their next request, by the server they lead to."""

import asyncio

from msp_gateway.http1.connection import Connection
from msp_gateway.http1.origin import Origin

IDLE_S = 4.0
"""Shorter than servers keep connections: uvicorn (vLLM) closes after 5 s, our workers after 75 s."""

MAX_IDLE = 256
"""For each server; those released beyond are closed."""


class Pool:
    """The connection used last is used next, so that after a burst the others run out."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._idle: dict[Origin, list[Connection]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, origin: Origin, now: float) -> Connection | None:
        """A connection that is open as far as is known; None where there is none."""
        waiting = self._idle.get(origin)
        while waiting:
            connection = waiting.pop()
            if connection.open and now - connection.idle_since < self._idle_s:
                return connection
            connection.abort()
        return None

    def put(self, origin: Origin, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Keep a connection for the next request."""
        waiting = self._idle.setdefault(origin, [])
        if len(waiting) >= MAX_IDLE:
            connection.abort()
            return
        connection.idle_since = loop.time()
        waiting.append(connection)
        if self._timer is None:
            self._timer = loop.call_later(self._idle_s, self._sweep, loop)

    def drop(self, origin: Origin, connection: Connection) -> None:
        """The connection has ended; it may be one that is not here."""
        waiting = self._idle.get(origin, [])
        if connection in waiting:
            waiting.remove(connection)
        if not waiting:
            self._idle.pop(origin, None)

    def close(self) -> None:
        """Close all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiting in self._idle.values():
            for connection in waiting:
                connection.abort()
        self._idle = {}

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for origin, waiting in list(self._idle.items()):
            fresh = [c for c in waiting if now - c.idle_since < self._idle_s]
            for connection in waiting[: len(waiting) - len(fresh)]:  # the oldest stand first
                connection.abort()
            self._idle[origin] = fresh
            if not fresh:
                del self._idle[origin]
        self._timer = loop.call_later(self._idle_s / 2, self._sweep, loop) if self._idle else None
