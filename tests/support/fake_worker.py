"""A worker whose answers and faults are scripted, on a real socket, with a memory of what it saw."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Exchange:
    """One request as the worker received it, and the means to answer it."""

    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    client_gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    def start(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send the head of an answer whose body is chunked."""
        fields = {"content-type": "application/json", "transfer-encoding": "chunked", **(headers or {})}
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in fields.items())]
        self.raw("\r\n".join([*lines, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        """Send a part of the body."""
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        """End the body as HTTP wants it."""
        self.raw(b"0\r\n\r\n")

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def reset(self) -> None:
        """Send what was written, then break the connection with a TCP reset."""
        await self.writer.drain()
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


class FakeWorker:
    """Serves while its `async with` block lasts. `behaviours` are used up one by one; the last one stays."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours) or [answers_with_model]
        self.seen: list[Exchange] = []
        self.asked = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._exchanges: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.listen_again()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_listening()
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    async def listen_again(self) -> None:
        """Accept connections, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_listening(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._exchanges.add(task)
        try:
            await self._exchange(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway may leave at any time
        finally:
            self._exchanges.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        exchange = Exchange(head[0].split(" ")[1], headers, body, writer)
        self.seen.append(exchange)
        self.asked.set()
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]

        async def watch() -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            exchange.client_gone.set()

        watcher = asyncio.create_task(watch())
        try:
            await behaviour(exchange)
            if not writer.transport.is_closing():
                await writer.drain()
        finally:
            watcher.cancel()


async def answers_with_model(exchange: Exchange) -> None:
    """A whole chat completion whose `model` is the one that was asked for."""
    model = exchange.json.get("model") if exchange.body.startswith(b"{") else None
    send_json(exchange, 200, completion(model or "unnamed", "hello"))


def completion(model: str, text: str) -> dict[str, Any]:
    """A chat completion as OpenAI writes it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def send_json(
    exchange: Exchange, status: int, content: Any, headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole answer."""
    body = json.dumps(content).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in fields.items())]
    exchange.raw("\r\n".join([*lines, "", ""]).encode() + body)


def answers(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Every request gets this answer."""

    async def behaviour(exchange: Exchange) -> None:
        send_json(exchange, status, content, headers)

    return behaviour


def event(text: str | None) -> bytes:
    """One event of a chat stream; None makes the last one, with a finish reason."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    finish = "stop" if text is None else None
    return b"data: %s\n\n" % json.dumps({**chunk, "choices": [{**choice, "finish_reason": finish}]}).encode()


def start_stream(exchange: Exchange) -> None:
    """The head of an event stream."""
    exchange.start(200, {"content-type": "text/event-stream", "cache-control": "no-cache"})


def streams(*words: str) -> Behaviour:
    """A whole chat stream."""

    async def behaviour(exchange: Exchange) -> None:
        start_stream(exchange)
        for word in words:
            exchange.chunk(event(word))
        exchange.chunk(event(None))
        exchange.chunk(b"data: [DONE]\n\n")
        exchange.end()

    return behaviour


def cuts_stream_after(*words: str, then: bytes = b"") -> Behaviour:
    """A stream that is reset after these words, and after `then`."""

    async def behaviour(exchange: Exchange) -> None:
        start_stream(exchange)
        for word in words:
            exchange.chunk(event(word))
        if then:
            exchange.chunk(then)
        await exchange.reset()

    return behaviour


async def resets(exchange: Exchange) -> None:
    """The request is read whole, then the connection is reset."""
    await exchange.reset()


async def closes(exchange: Exchange) -> None:
    """The request is read whole, then the connection is closed without a byte."""


async def speaks_no_http(exchange: Exchange) -> None:
    """An answer that is no HTTP."""
    exchange.raw(b"SSH-2.0-nonsense\r\n\r\n")


async def starts_then_resets(exchange: Exchange) -> None:
    """The head of a good answer, then a reset before the first byte of its body."""
    start_stream(exchange)
    await exchange.reset()


async def cuts_json(exchange: Exchange) -> None:
    """Half of a whole answer, then a reset."""
    exchange.raw(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"id": "c')
    await exchange.reset()


async def stalls(exchange: Exchange) -> None:
    """Nothing at all, until the other side leaves."""
    await exchange.client_gone.wait()


async def stalls_in_stream(exchange: Exchange) -> None:
    """One event, then nothing until the other side leaves."""
    start_stream(exchange)
    exchange.chunk(event("Once"))
    await exchange.writer.drain()
    await exchange.client_gone.wait()
