"""A scripted worker that keeps its connections, as real ones do: one request after the other on each."""

import asyncio
import contextlib

from support.fake_worker import Exchange, FakeWorker


class KeptWorker(FakeWorker):
    """As FakeWorker otherwise. A behaviour that wants its connection closed closes `exchange.writer`.

    Asked for what requests used it has nothing to tell, and remembers nothing of being asked.
    """

    connections = 0

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        line = _Line(reader)
        pump = asyncio.create_task(line.pump())
        try:
            while not writer.transport.is_closing():
                await self._next(line, writer)
        finally:
            pump.cancel()

    async def _next(self, line: "_Line", writer: asyncio.StreamWriter) -> None:
        head = (await line.arrived.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (field.partition(":") for field in head[1:] if field)}
        body = await line.arrived.readexactly(int(headers.get("content-length", "0")))
        path = head[0].split(" ")[1]
        if path.startswith("/usage"):
            await line.gone.wait()  # no news
            return
        exchange = Exchange(path, headers, body, writer, line.gone)
        self.seen.append(exchange)
        self.asked.set()
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        await behaviour(exchange)
        if not writer.transport.is_closing():
            await writer.drain()


class _Line:
    """What comes over one connection, read at once, so that its end is noticed whatever a behaviour does."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.arrived = asyncio.StreamReader()
        self.gone = asyncio.Event()

    async def pump(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(65536):
                self.arrived.feed_data(data)
        self.arrived.feed_eof()
        self.gone.set()
