"""Notices that the client left while its request is worked on."""

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

from msp_gateway.body import ClientLeft

FIRST_LOOK_S = 0.05
"""A request that is over sooner needs no watching, which costs a task. It begins within twice that."""


class Clients:
    """Watches the clients of one event loop. One timer serves all requests that are new."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticking = False
        self._new: set[Presence] = set()
        self._seen: set[Presence] = set()
        """Those that were there at the last tick."""

    def until_leaving(self, receive: Receive) -> "Presence":
        """`with` a block that is cancelled when the client leaves; it then raises ClientLeft.

        For requests whose body has been read whole. `receive` must be watched, for `send` says nothing of a
        client that left. The end of an answer looks like a leaving too: send it after the block.
        """
        return Presence(self, receive)

    def begin(self, presence: "Presence") -> asyncio.AbstractEventLoop:
        """Watch this one a little later."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._new.add(presence)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(FIRST_LOOK_S, self._tick, self._loop)
        return self._loop

    def end(self, presence: "Presence") -> None:
        """Watch it no longer."""
        self._new.discard(presence)
        self._seen.discard(presence)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        for presence in self._seen:
            presence.watch(loop)
        self._seen, self._new = self._new, set()
        self._ticking = bool(self._seen)
        if self._ticking:
            loop.call_later(FIRST_LOOK_S, self._tick, loop)


class Presence:
    """One client, from its request's last byte to the answer's end."""

    __slots__ = ("_clients", "_left", "_receive", "_task", "_watcher")

    def __init__(self, clients: Clients, receive: Receive) -> None:
        self._clients = clients
        self._receive = receive
        self._left = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Begin to watch, a little later."""
        self._task = asyncio.current_task(self._clients.begin(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no longer."""
        self._clients.end(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if kind is asyncio.CancelledError and self._left and self._task and self._task.uncancel() == 0:
            raise ClientLeft from None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at what the client sends from now on."""
        self._watcher = loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        if self._task is not None:
            self._task.cancel()
