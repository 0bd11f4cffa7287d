"""Texts to embed, and a client that asks for them over so many connections at once."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pydoc_data.topics import topics
from random import Random

from transformers import PreTrainedTokenizerBase

SHORT_WORDS = (2, 3, 4)
MIXED_WORDS = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Load:
    """What one load test saw."""

    requests_per_s: float
    p50_ms: float
    p95_ms: float


def texts(count: int, words: Sequence[int], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[str]:
    """English prose, cut from Python's own manual; of every number of words alike many.

    None is longer than the model's context: peers would cut it, and so do less work.
    """
    prose = " ".join(topics.values()).split()
    random = Random(0)
    made: list[str] = []
    while len(made) < count:
        size = words[len(made) % len(words)]
        begin = random.randrange(len(prose) - size)
        text = " ".join(prose[begin : begin + size])
        if len(tokenizer(text)["input_ids"]) <= max_tokens:
            made.append(text)
    random.shuffle(made)
    return made


async def load(port: int, path: str, model: str, asked: Iterable[str], connections: int) -> Load:
    """Ask for each text once, as fast as answers come. Raises RuntimeError on any answer but 200."""
    requests = iter([_request(path, model, text) for text in asked])
    delays: list[float] = []

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in requests:
            begun = time.perf_counter()
            writer.write(request)
            await _answer(reader)
            delays.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(connections)))
    took = time.perf_counter() - begun
    quantiles = statistics.quantiles(delays, n=20)
    return Load(len(delays) / took, quantiles[9] * 1e3, quantiles[18] * 1e3)


def first(asked: Iterable[str], count: int) -> list[str]:
    """The first so many."""
    return list(islice(asked, count))


def _request(path: str, model: str, text: str) -> bytes:
    body = json.dumps({"model": model, "input": text}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"answer was {head.splitlines()[0]!r}: {body[:200]!r}")
