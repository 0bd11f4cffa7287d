"""A tiny forward proxy: it passes plain requests on, tunnels the others, and remembers both."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit


class ForwardProxy:
    """`reached` lists the targets: `http host:port` or `CONNECT host:port`.

    A tunnel leads to `tunnel_to` whatever host is asked for, so that names need not exist.
    """

    def __init__(self, tunnel_to: tuple[str, int] | None = None) -> None:
        self.reached: list[str] = []
        self.url = ""
        self._tunnel_to = tunnel_to

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator["ForwardProxy", None]:
        """Listens on a free port while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            if method == "CONNECT":
                self.reached.append(f"CONNECT {target}")
                host, port = self._tunnel_to or (target.rsplit(":", 1)[0], int(target.rsplit(":", 1)[1]))
                there, back = await asyncio.open_connection(host, port)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                url = urlsplit(target)
                self.reached.append(f"http {url.netloc}")
                there, back = await asyncio.open_connection(url.hostname, url.port or 80)
                path = target.split(url.netloc, 1)[1].encode()
                back.write(head.replace(target.encode(), path, 1))
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def tls_front(
    certificate: Path, key: Path, target: tuple[str, int]
) -> AsyncGenerator[tuple[str, int], None]:
    """Speaks TLS with this certificate before a server that does not; gives the address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*target)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield "127.0.0.1", server.sockets[0].getsockname()[1]
    finally:
        server.close()
