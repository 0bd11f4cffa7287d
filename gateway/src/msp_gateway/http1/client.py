"""Requests to workers, over connections that are kept."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msp_gateway.batched_writes import WriteBatch
from msp_gateway.http1.connection import Connection
from msp_gateway.http1.origin import Origin, Target, request_head, target_of
from msp_gateway.http1.pool import Pool
from msp_gateway.upstream import RawHeaders, UpstreamRefused, UpstreamRequest, UpstreamReset

DIED_IDLE_S = 1.0
"""A reused connection that ends so soon after the request, without a byte, had ended before it."""

_JOINED_BYTES = 64 * 1024
_BATCH_BYTES = 2 * 1024 * 1024
_MAX_TARGETS = 1024


class _DiedIdle(Exception):
    """A kept connection turned out to be dead when it was used."""


class Answer:
    """An answer whose head has arrived."""

    __slots__ = ("_client", "_connection", "_origin", "headers", "read", "status")

    def __init__(self, client: "Http1Upstream", origin: Origin, connection: Connection) -> None:
        self._client = client
        self._origin = origin
        self._connection: Connection | None = connection
        self.status: int = connection.answer.status
        self.headers: RawHeaders = connection.answer.headers
        # Called for every event of a stream: with no coroutine in between.
        self.read: Callable[[], Awaitable[bytes]] = connection.read

    @property
    def ended(self) -> bool:
        """Whether the body has been read to its end, as far as is known without waiting."""
        return self._connection is None or self._connection.answer.exhausted

    def close(self) -> None:
        """End the exchange. Where the body has not ended, close the connection, which tells the worker."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self.read = _nothing
            self._client.take_back(self._origin, connection)


class Sent:
    """A request that was sent, or will be once its connection is made; its answer has not been taken yet."""

    __slots__ = ("_began", "_client", "_kept", "_request", "_target", "connection")

    def __init__(
        self,
        client: "Http1Upstream",
        connection: Connection,
        target: Target,
        request: UpstreamRequest,
        began: float,
        kept: bool,
    ) -> None:
        """`kept` says that the connection had had an exchange before."""
        self._client = client
        self._target = target
        self._request = request
        self._began = began
        self._kept = kept
        self.connection = connection

    async def answer(self) -> Answer:
        """As `Http1Upstream.open`, from here on: a kept connection may turn out to have been dead."""
        self.connection.on_change(None)
        if not self._kept:
            return await self._client.exchange(self.connection, self._target, self._request, sent=True)
        return await self._client.over_kept(
            self.connection, self._target, self._request, self._began, sent=True
        )

    def close(self) -> None:
        """End the exchange. Where the answer has not ended, close the connection, which tells the worker."""
        self._client.take_back(self._target.origin, self.connection)


class Http1Upstream:
    """Talks to workers. Belongs to the event loop in which it is first used."""

    def __init__(self, connect_timeout_s: float, tls: ssl.SSLContext) -> None:
        """`tls` says whom to trust at https URLs."""
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self.batch = WriteBatch()
        """In which requests are written; for who else writes in this event loop, too."""
        self._pool = Pool()
        self._targets: dict[str, Target] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()

    async def open(self, request: UpstreamRequest) -> Answer:
        """Send the request and wait for the head of the answer, without limit of time.

        Cancelling closes the connection at once. Raises UpstreamError.
        """
        target = self._target(request.url)
        loop = self._loop = self._loop or asyncio.get_running_loop()
        now = loop.time()
        kept = self._pool.take(target.origin, now)
        if kept is None:
            return await self.exchange(await self._connect(target.origin, loop), target, request)
        return await self.over_kept(kept, target, request, now, sent=False)

    def send(self, request: UpstreamRequest) -> Sent | None:
        """Send a request without waiting, a first one over its connection as soon as that is made.

        None for a long one.
        """
        if request.body.size_bytes > _BATCH_BYTES:
            return None
        target = self._target(request.url)
        loop = self._loop = self._loop or asyncio.get_running_loop()
        now = loop.time()
        kept = self._pool.take(target.origin, now)
        connection = kept or self._being_made(target.origin, loop)
        connection.begin()
        connection.write_whole(_whole(target, request))
        return Sent(self, connection, target, request, now, kept is not None)

    async def over_kept(
        self, kept: Connection, target: Target, request: UpstreamRequest, began: float, *, sent: bool
    ) -> Answer:
        """The exchange over this connection, or over a fresh one if it was dead when it began."""
        loop = asyncio.get_running_loop()
        try:
            return await self.exchange(kept, target, request, kept=True, sent=sent)
        except _DiedIdle as died:
            if loop.time() - began >= DIED_IDLE_S:
                raise UpstreamReset(str(died)) from None
        try:
            fresh = await self._connect(target.origin, loop)
        except UpstreamRefused as error:
            # The worker may have read the request, and died of it: no longer was nothing sent.
            raise UpstreamReset(f"the kept connection had ended; a fresh one: {error}") from None
        return await self.exchange(fresh, target, request)

    def take_back(self, origin: Origin, connection: Connection) -> None:
        """An exchange is over: keep its connection or close it."""
        if connection.release():
            self._pool.put(origin, connection, self._loop or asyncio.get_running_loop())

    def _target(self, url: str) -> Target:
        target = self._targets.get(url)
        if target is None:
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            target = self._targets[url] = target_of(url)
        return target

    def _being_made(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> Connection:
        """A connection that is being made."""
        connection = self._new(origin, loop)

        async def make() -> None:
            try:
                await self._make(connection, origin, loop)
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer is told
                connection.fail(error)

        connection.made_by(loop.create_task(make()))
        return connection

    async def _connect(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> Connection:
        connection = self._new(origin, loop)
        await self._make(connection, origin, loop)
        return connection

    def _new(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> Connection:
        return Connection(loop, partial(self._pool.drop, origin), self.batch)

    async def _make(self, connection: Connection, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        """Raises UpstreamRefused."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await loop.create_connection(
                    lambda: connection, origin.host, origin.port, ssl=self._tls if origin.tls else None
                )
        except TimeoutError:
            raise UpstreamRefused(f"no connection within {self._connect_timeout_s:g} s") from None
        except (OSError, UnicodeError) as error:  # what names and TLS raise are OSErrors too
            raise UpstreamRefused(f"{type(error).__name__}: {error}") from error

    async def exchange(
        self,
        connection: Connection,
        target: Target,
        request: UpstreamRequest,
        *,
        kept: bool = False,
        sent: bool = False,
    ) -> Answer:
        """The exchange over this connection. Raises UpstreamError."""
        try:
            if not sent:
                connection.begin()
                if request.body.size_bytes <= _BATCH_BYTES:
                    connection.write_whole(_whole(target, request))
                else:
                    await _send_piecewise(connection, target, request)
            await connection.head()
        except UpstreamReset as error:
            silent = not connection.answer.received
            connection.release()
            if kept and silent:
                raise _DiedIdle(str(error)) from None
            raise
        except BaseException:
            connection.release()
            raise
        return Answer(self, target.origin, connection)


async def _nothing() -> bytes:
    return b""


def _whole(target: Target, request: UpstreamRequest) -> Sequence[bytes]:
    """A request that is sent in one go."""
    parts = (request_head(target, request.headers, request.body.size_bytes), *request.body.chunks())
    # To copy so few bytes costs the event loop less than a list.
    return (b"".join(parts),) if request.body.size_bytes < _JOINED_BYTES else parts


async def _send_piecewise(connection: Connection, target: Target, request: UpstreamRequest) -> None:
    """Send a long request, unless the worker answers, or leaves, before its end."""
    left = request.body.size_bytes
    batch, size = [request_head(target, request.headers, left)], 0
    for chunk in request.body.chunks():
        batch.append(chunk)
        size += len(chunk)
        left -= len(chunk)
        if size >= _BATCH_BYTES and left:
            connection.write(batch, last=False)
            if not await connection.written():
                return
            batch, size = [], 0
    connection.write(batch, last=True)
