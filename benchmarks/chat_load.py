"""Concurrent streamed chats, and when each of their tokens came."""

import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass, field

import httpx

from random_chat_model import source_text


@dataclass(frozen=True)
class Load:
    """What one load saw, all streams together."""

    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    itl_p50_ms: float
    itl_p95_ms: float


@dataclass
class _Stream:
    ttft_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    tokens: int = 0
    text: str = ""


def prompts(count: int, lengths: list[int], seed: int = 0) -> list[str]:
    """Pieces of program text, so many characters long; the same for every server, others for another seed."""
    text = next(source_text())
    rng = random.Random(seed)
    sizes = [rng.choice(lengths) for _ in range(count)]
    return [text[(at := rng.randrange(len(text) - size)) : at + size] for size in sizes]


async def load(url: str, model: str, questions: list[str], *, concurrent: int, max_tokens: int) -> Load:
    """All questions, so many at once. Raises RuntimeError on any answer but 200."""
    limits = httpx.Limits(max_connections=concurrent)
    seen: list[_Stream] = []
    async with httpx.AsyncClient(timeout=600, limits=limits) as http:
        waiting = iter(questions)

        async def one_client() -> None:
            for question in waiting:
                seen.append(await _chat(http, url, model, [_said("user", question)], max_tokens))

        begun = time.perf_counter()
        await asyncio.gather(*(one_client() for _ in range(concurrent)))
        took_s = time.perf_counter() - begun
    firsts = sorted(stream.ttft_s * 1e3 for stream in seen)
    gaps = sorted(gap * 1e3 for stream in seen for gap in stream.gaps_s)
    return Load(
        sum(stream.tokens for stream in seen) / took_s,
        statistics.median(firsts),
        _p95(firsts),
        statistics.median(gaps),
        _p95(gaps),
    )


async def two_turns(url: str, model: str, history: str, *, max_tokens: int) -> tuple[float, float]:
    """Times to the first token, in ms: of a long first turn, and of a short second one behind it."""
    async with httpx.AsyncClient(timeout=600) as http:
        turns = [_said("user", history)]
        first = await _chat(http, url, model, turns, max_tokens)
        turns += [_said("assistant", first.text), _said("user", "And what does the last function return?")]
        second = await _chat(http, url, model, turns, max_tokens)
    return first.ttft_s * 1e3, second.ttft_s * 1e3


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


async def _chat(
    http: httpx.AsyncClient, url: str, model: str, turns: list[dict[str, str]], max_tokens: int
) -> _Stream:
    body = {
        "model": model,
        "messages": turns,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stream, begun, before = _Stream(), time.perf_counter(), 0.0
    async with http.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"{url} answered {answer.status_code}: {(await answer.aread())[:300]!r}")
        async for line in answer.aiter_lines():
            data = line.removeprefix("data:").strip()
            if not line.startswith("data:") or data == "[DONE]":
                continue
            event = json.loads(data)
            if event.get("usage"):
                stream.tokens = event["usage"]["completion_tokens"]
            choices = event.get("choices")
            if choices and choices[0]["delta"].get("content"):
                now = time.perf_counter()
                stream.text += choices[0]["delta"]["content"]
                if not stream.ttft_s:
                    stream.ttft_s = now - begun
                else:
                    stream.gaps_s.append(now - before)
                before = now
    if not stream.tokens:
        raise RuntimeError(f"{url} told no usage")
    return stream


def _p95(values: list[float]) -> float:
    return values[int(0.95 * (len(values) - 1))]
