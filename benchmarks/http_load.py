"""A keep-alive HTTP/1.1 load generator and a constant upstream, both on raw asyncio streams.

Cheap enough not to be what is measured: some 10,000 requests a second on one core.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass

ANSWER = (
    b'{"id":"x","object":"chat.completion","created":1,"model":"bench/model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"word " * 80 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":80,"total_tokens":90}}'
)
QUESTION = b'{"model":"bench/model","messages":[{"role":"user","content":"' + b"why " * 60 + b'"}]}'


@dataclass(frozen=True)
class Load:
    """What one load test saw."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"content-length:" in lower:
        length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
    elif b"transfer-encoding: chunked" in lower:
        while (size := int(await reader.readline(), 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
    return head


async def answer_always(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The upstream: one constant answer to whatever is asked, as long as the connection lives."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(ANSWER),
        ANSWER,
    )
    try:
        while True:
            await _read_message(reader)
            writer.write(reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def load(port: int, connections: int, duration_s: float) -> Load:
    """Send as fast as answers come, on so many connections. Raises RuntimeError on any answer but 200."""
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(QUESTION), QUESTION)
    )
    deadline = time.perf_counter() + duration_s
    delays: list[float] = []

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < deadline:
            writer.write(request)
            head = await _read_message(reader)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"answer was {head.splitlines()[0]!r}")
            delays.append(time.perf_counter() - started)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(connections)))
    quantiles = statistics.quantiles(delays, n=100)
    return Load(len(delays) / (time.perf_counter() - started), quantiles[49] * 1e3, quantiles[98] * 1e3)
