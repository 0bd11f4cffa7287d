"""A client of bytes: says exactly what a test wants, and tells what came back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Wire:
    """One connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, mark: bytes) -> bytes:
        """What comes, up to and with the mark."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(mark)

    async def to_end(self) -> bytes:
        """All that comes until the server closes; a reset counts as that."""
        said = b""
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    said += data
        return said

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Status, head and body of one answer that has a Content-Length."""
        head = await self.until(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        async with asyncio.timeout(10):
            return int(head.split(b" ")[1]), head, await self.reader.readexactly(length)


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[Wire]:
    """A connection to a server's base URL."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
