"""A worker of bytes: each connection is served by the next of the given functions; remembers what it read."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Line:
    """One connection as the worker sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes]

    async def request(self) -> bytes:
        """The next request, whole: head and body. Needs a Content-Length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
        request = head + await self.reader.readexactly(int(length[1]) if length else 0)
        self.requests.append(request)
        return request

    async def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def left(self) -> bytes:
        """What else comes, until the other side closes."""
        rest = b""
        with suppress(ConnectionError):
            while data := await self.reader.read(65536):
                rest += data
        return rest


Serves = Callable[[Line], Awaitable[None]]


@dataclass
class RawWorker:
    """What a running worker of bytes saw."""

    url: str
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    served: list[asyncio.Event] = field(default_factory=list)
    """One for each connection, set once its function has ended and the connection is closed."""


@asynccontextmanager
async def raw_worker(*serves: Serves, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawWorker]:
    """Listen while the block lasts. The last function serves all further connections."""
    worker = RawWorker("")
    tasks: set[asyncio.Task[None]] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serve = serves[min(worker.connections, len(serves) - 1)]
        worker.connections += 1
        ended = asyncio.Event()
        worker.served.append(ended)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(Line(reader, writer, worker.requests))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side may leave at any time
        finally:
            tasks.discard(task)
            writer.close()
            ended.set()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    worker.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield worker
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer with a Content-Length."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *fields, b"", body]
    return b"\r\n".join(lines)


def answers(*whole: bytes) -> Serves:
    """One connection that answers one request after the other with these bytes, then reads until the end."""

    async def serve(line: Line) -> None:
        for data in whole:
            await line.request()
            await line.say(data)
        await line.left()

    return serve
