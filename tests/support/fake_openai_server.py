"""An external server as a process, for the worker to start: `fake_openai_server.py --port N [faults]`.

The last message's text chooses the answer; see `ANSWERS`. What it saw is appended to `--memory`, one JSON
object a line.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.fake_worker import Behaviour, Exchange, FakeWorker, completion, event, send_json, start_stream

THEIR_NAME = "/models/secret-place@main"


class Server:
    """Answers by script."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.told = told

    def remember(self, **what: Any) -> None:
        if self.told.memory:
            with Path(self.told.memory).open("a") as memory:
                memory.write(json.dumps(what) + "\n")

    def is_ready(self) -> bool:
        ready, sick = self.told.ready_when, self.told.sick_when
        return (not ready or Path(ready).exists()) and not (sick and Path(sick).exists())

    def page(self) -> bytes:
        return Path(self.told.metrics).read_bytes()

    async def answer(self, exchange: Exchange) -> None:
        path = exchange.path.removeprefix(self.told.base)
        if exchange.path == "/health":
            send_json(exchange, 200 if self.is_ready() else 503, {})
        elif path == "/models":
            data = [{"id": self.told.name, "max_model_len": 4096}]
            send_json(exchange, 200, {"object": "list", "data": data})
        elif exchange.path == "/metrics" and self.told.metrics:
            page = self.page()
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(page), page))
        elif path == "/audio/transcriptions":
            self.remember(path=exchange.path, headers=exchange.headers, body=exchange.body.decode("latin-1"))
            await self.transcribe(exchange)
        elif path in ("/chat/completions", "/completions", "/embeddings"):
            self.remember(path=exchange.path, headers=exchange.headers, body=exchange.body.decode())
            await self.say(exchange)
        elif path == "/responses" and self.told.responses:
            await self.respond(exchange)
        else:
            send_json(exchange, 404, {"detail": "Not Found"})

    async def respond(self, exchange: Exchange) -> None:
        body = exchange.json
        if "input" not in body:
            send_json(exchange, 400, {"error": {"message": "'input' is required", "code": 400}})
            return
        self.remember(path=exchange.path, headers=exchange.headers, body=exchange.body.decode())
        usage = {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}
        done = {"object": "response", "model": THEIR_NAME, "status": "completed", "usage": usage}
        if not body.get("stream"):
            send_json(exchange, 200, done)
            return
        start_stream(exchange)
        begun = {"type": "response.created", "response": {**done, "status": "in_progress", "usage": None}}
        deltas = [{"type": "response.output_text.delta", "delta": word} for word in ("Hel", "lo")]
        end = [] if body["input"] == "end early" else [{"type": "response.completed", "response": done}]
        item = {"type": "response.output_item.done", "item": {}}
        events: list[dict[str, Any]] = [begun, *deltas, item, *end]
        for one in events:
            exchange.chunk(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode())
        exchange.end()

    async def say(self, exchange: Exchange) -> None:
        body = exchange.json
        said = body["messages"][-1]["content"] if "messages" in body else str(body.get("input"))
        if said in ANSWERS:
            await ANSWERS[said](exchange)
        elif said == "linger":
            start_stream(exchange)
            exchange.chunk(named(event("on")))
            await exchange.writer.drain()
            await exchange.client_gone.wait()
            self.remember(gone=True)
        elif said == "think":
            self.remember(thinking=True)
            await exchange.client_gone.wait()
            self.remember(gone=True)
        elif said == "pour":
            await self.pour(exchange)
        elif body.get("stream"):
            await stream(exchange, with_usage=bool((body.get("stream_options") or {}).get("include_usage")))
        else:
            send_json(exchange, 200, {**completion(THEIR_NAME, "hello"), "kept": 1.50})

    async def transcribe(self, exchange: Exchange) -> None:
        if b"\r\n\r\nvtt\r\n" in exchange.body:
            await plain(200, b"WEBVTT\n", b"content-type: text/vtt; charset=utf-8")(exchange)
        elif b"\r\n\r\nhtml\r\n" in exchange.body:
            await ANSWERS["garbage"](exchange)
        elif b'name="stream"' in exchange.body:
            start_stream(exchange)
            exchange.chunk(b'data: {"type": "transcript.text.delta", "delta": "seven"}\n\n')
            exchange.chunk(b'data: {"type": "transcript.text.done", "text": "seven"}\n\n')
            exchange.end()
        else:
            usage = {"type": "duration", "seconds": 1.5}
            send_json(exchange, 200, {"text": "seven", "usage": usage})

    async def pour(self, exchange: Exchange) -> None:
        """As much as the other side takes, remembering how much that was when it stopped taking."""
        start_stream(exchange)
        poured = 0
        try:
            while poured < 2_000:
                exchange.chunk(named(event("x" * 50_000)))
                poured += 1
                async with asyncio.timeout(1):
                    await exchange.writer.drain()
        except TimeoutError:
            self.remember(poured=poured)
            await exchange.client_gone.wait()
            self.remember(gone=True)


def named(frame: bytes) -> bytes:
    """The event with the server's own name of the model."""
    return frame.replace(b'"model": "m"', b'"model": ' + json.dumps(THEIR_NAME).encode())


async def stream(exchange: Exchange, *, with_usage: bool) -> None:
    """Two words and the end, with `[DONE]`."""
    start_stream(exchange)
    exchange.chunk(b": still here\n\n")
    for word in ("Hel", "lo", None):
        exchange.chunk(named(event(word)))
    if with_usage:
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        tail = {"id": "c", "object": "chat.completion.chunk", "created": 1, "choices": [], "usage": usage}
        exchange.chunk(b"data: %s\n\n" % json.dumps({**tail, "model": THEIR_NAME}).encode())
    exchange.chunk(b"data: [DONE]\n\n")
    exchange.end()


def raw_stream(*frames: bytes, die: bool = False) -> Behaviour:
    async def behaviour(exchange: Exchange) -> None:
        start_stream(exchange)
        for frame in frames:
            exchange.chunk(frame)
        await exchange.writer.drain()
        if die:
            sys.stderr.write("CUDA error: out of memory\n")
            sys.stderr.flush()
            os._exit(9)
        exchange.end()

    return behaviour


def plain(status: int, body: bytes, *headers: bytes) -> Behaviour:
    async def behaviour(exchange: Exchange) -> None:
        head = b"HTTP/1.1 %d Status\r\ncontent-length: %d\r\n" % (status, len(body))
        exchange.raw(head + b"".join(h + b"\r\n" for h in headers) + b"\r\n" + body)

    return behaviour


def error(status: int, **fields: Any) -> Behaviour:
    return plain(status, json.dumps(fields).encode())


async def reset(exchange: Exchange) -> None:
    await exchange.reset()


ANSWERS: dict[str, Behaviour] = {
    "die": raw_stream(named(event("Once")), die=True),
    "end early": raw_stream(named(event("Once"))),
    "no done": raw_stream(named(event("Once")), named(event(None))),
    "garbage event": raw_stream(named(event("Once")), b"data: {oops\n\n"),
    "garbage first": raw_stream(b"data: {oops\n\n"),
    "error event": raw_stream(
        named(event("Once")), b'data: {"error": {"message": "out of blocks", "code": 500}}\n\n'
    ),
    "garbage": plain(200, b"<html>hello</html>", b"content-type: text/html"),
    "no http": lambda exchange: _raw(exchange, b"SSH-2.0-nonsense\r\n\r\n"),
    "reset": reset,
    "400": error(
        400, error={"message": "bad top_k", "type": "BadRequestError", "param": "top_k", "code": 400}
    ),
    "context": error(
        400, object="error", message="This model's maximum context length is 4096 tokens.", code=400
    ),
    "422": error(422, detail=[{"loc": ["body", "temperature"], "msg": "Input should be a number"}]),
    "401": error(401, error="Unauthorized"),
    "404": error(404, error={"message": f"The model `{THEIR_NAME}` does not exist.", "code": 404}),
    "429": plain(429, b'{"error": {"message": "full"}}', b"retry-after: 7"),
    "500": plain(500, b"Traceback: secret internals"),
    "503": error(503, error={"message": "loading model"}),
}


async def _raw(exchange: Exchange, data: bytes) -> None:
    exchange.raw(data)


async def main(told: argparse.Namespace) -> None:
    server = Server(told)
    server.remember(started=sys.argv, environment=dict(os.environ), pid=os.getpid())
    if told.stubborn:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
    fake = FakeWorker(server.answer)
    fake.port = told.port
    async with fake:
        await asyncio.Event().wait()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default=THEIR_NAME)
    parser.add_argument("--base", default="/v1")
    parser.add_argument("--memory")
    parser.add_argument("--responses", action="store_true", help="answers /responses too")
    parser.add_argument("--metrics", help="a file with the page to show")
    parser.add_argument("--ready-when", help="not ready until this file exists")
    parser.add_argument("--sick-when", help="not ready any more when this file exists")
    parser.add_argument("--exit-at-once", action="store_true")
    parser.add_argument("--stubborn", action="store_true", help="SIGTERM does nothing")
    return parser.parse_args()


if __name__ == "__main__":
    told = arguments()
    if told.exit_at_once:
        sys.stderr.write("\x1b[31mValueError\x1b[0m: no kernel image; token hf_abcdefghijkl\n")
        sys.exit(41)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(told))
