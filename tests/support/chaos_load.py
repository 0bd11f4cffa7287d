"""Mixed load against a gateway, where every answer is either right, an honest error, or a finding.

Right is what the fake engines say of the request; honest is an error in OpenAI's envelope, in a stream also
one that comes as an event before the connection ends. A stream that ends cleanly without its end is a
finding.
"""

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from support.audio_files import RATE, encode, tone
from support.chaos_cluster import CHAT, EMBEDDING, PATIENCE_S, TRANSCRIPTION


class Ended(StrEnum):
    """How a request ended."""

    RIGHT = "right"
    HONEST_ERROR = "honest error"
    LEFT = "the client left"
    WRONG = "wrong"


@dataclass
class Findings:
    """What came back of all requests."""

    counts: Counter[tuple[str, Ended]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """Honest errors of requests that were not streamed: with a good replica alive there must be none."""
    wrong: list[str] = field(default_factory=list)

    def note(self, kind: str, ended: Ended, detail: str = "") -> None:
        self.counts[kind, ended] += 1
        if ended is Ended.WRONG:
            self.wrong.append(f"{kind}: {detail}")
        elif ended is Ended.HONEST_ERROR and "stream" not in kind:
            self.errors.append(f"{kind}: {detail}")

    @property
    def total(self) -> int:
        return self.counts.total()


def _error_of(body: bytes) -> str | None:
    """The message of an envelope; None if it is none."""
    try:
        error = json.loads(body)["error"]
        whole = {"message", "type", "param", "code"} <= set(error)
        return str(error["message"]) if whole else None
    except (ValueError, KeyError, TypeError):
        return None


class Load:
    """Clients that ask one thing after the other until they are told to stop."""

    def __init__(self, gateway_url: str, seed: int, *, only: str | None = None, most_words: int = 60) -> None:
        """`only` is the kind of all requests; `most_words` is how many one may have."""
        self._random = random.Random(seed)
        self._most_words = most_words
        self._recording = encode(tone(1.5), rate=RATE)
        self._url = gateway_url
        self.findings = Findings()
        self._stop = asyncio.Event()
        self._turns: dict[int, float] = {}
        self._turned = asyncio.Condition()
        self._kinds: list[tuple[str, Callable[[httpx.AsyncClient, str], Awaitable[None]]]] = [
            ("chat", self._chat),
            ("chat stream", self._stream),
            ("chat stream", self._stream),
            ("embedding", self._embedding),
            ("transcription", self._transcription),
            ("bad request", self._bad),
            ("leaver", self._leave),
        ]
        if only is not None:
            self._kinds = [one for one in self._kinds if one[0] == only]

    async def run(self, clients: int, *, at_most: int | None = None) -> None:
        """Ask until `stop` (or `at_most` requests)."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
        async with (
            httpx.AsyncClient(
                base_url=self._url, timeout=PATIENCE_S, trust_env=False, limits=limits
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(clients):
                group.create_task(self._client(client, number, at_most))

    def stop(self) -> None:
        """Let every client finish what it asks now."""
        self._stop.set()

    async def all_begun_anew(self) -> None:
        """Return once every request is over that is under way now."""
        now = dict(self._turns)
        async with asyncio.timeout(PATIENCE_S), self._turned:
            await self._turned.wait_for(lambda: all(self._turns[who] > turn for who, turn in now.items()))

    async def _note_turn(self, client: int, turn: float) -> None:
        self._turns[client] = turn
        async with self._turned:
            self._turned.notify_all()

    async def _client(self, client: httpx.AsyncClient, number: int, at_most: int | None) -> None:
        turn = number
        while not self._stop.is_set() and (at_most is None or self.findings.total < at_most):
            kind, ask = self._kinds[turn % len(self._kinds)]
            turn += 1
            await self._note_turn(number, turn)
            try:
                await ask(client, kind)
            except httpx.TransportError as error:
                self.findings.note(kind, Ended.WRONG, f"the gateway's connection broke: {error!r}")
        await self._note_turn(number, math.inf)

    def _words(self) -> str:
        return " ".join(
            str(self._random.randrange(10**6)) for _ in range(self._random.randrange(1, self._most_words))
        )

    def _whole(self, kind: str, answer: httpx.Response, right: Callable[[httpx.Response], bool]) -> None:
        if answer.status_code == 200:
            ended = Ended.RIGHT if right(answer) else Ended.WRONG
            self.findings.note(kind, ended, answer.text[:300])
        elif (message := _error_of(answer.content)) is not None and answer.status_code >= 500:
            self.findings.note(kind, Ended.HONEST_ERROR, f"{answer.status_code} {message}")
        else:
            self.findings.note(kind, Ended.WRONG, f"{answer.status_code} {answer.text[:300]}")

    async def _chat(self, client: httpx.AsyncClient, kind: str) -> None:
        words = self._words()
        body = {"model": CHAT, "messages": [{"role": "user", "content": words}]}
        answer = await client.post("/v1/chat/completions", json=body)
        self._whole(
            kind,
            answer,
            lambda a: a.json()["choices"][0]["message"]["content"] == f"You said: {words}",
        )

    async def _embedding(self, client: httpx.AsyncClient, kind: str) -> None:
        answer = await client.post("/v1/embeddings", json={"model": EMBEDDING, "input": [self._words(), "b"]})
        self._whole(kind, answer, lambda a: [d["index"] for d in a.json()["data"]] == [0, 1])

    async def _transcription(self, client: httpx.AsyncClient, kind: str) -> None:
        answer = await client.post(
            "/v1/audio/transcriptions",
            data={"model": TRANSCRIPTION},
            files={"file": ("a.wav", self._recording)},
        )
        self._whole(kind, answer, lambda a: str(a.json()["text"]).strip() == "second 1 second 2")

    async def _bad(self, client: httpx.AsyncClient, kind: str) -> None:
        answer = await client.post("/v1/chat/completions", json={"model": CHAT, "messages": "none"})
        honest = answer.status_code == 400 and _error_of(answer.content) is not None
        if honest:
            self.findings.note(kind, Ended.RIGHT)
        else:
            self._whole(kind, answer, lambda a: False)

    async def _leave(self, client: httpx.AsyncClient, kind: str) -> None:
        body = {"model": CHAT, "stream": True, "messages": [{"role": "user", "content": self._words()}]}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                break
        self.findings.note(kind, Ended.LEFT)

    async def _stream(self, client: httpx.AsyncClient, kind: str) -> None:
        words = self._words()
        body = {"model": CHAT, "stream": True, "messages": [{"role": "user", "content": words}]}
        body["stream_options"] = {"include_usage": True}
        said, error, done, broke = "", None, False, ""
        ids, roles, usages = set(), 0, []
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    self._whole(kind, answer, lambda a: False)
                    return
                async for line in answer.aiter_lines():
                    if line == "data: [DONE]":
                        done = True
                    elif line.startswith("data: "):
                        event = json.loads(line.removeprefix("data: "))
                        if "error" in event:
                            error = _error_of(line.removeprefix("data: ").encode())
                            continue
                        ids.add((event["id"], event["created"]))
                        for choice in event["choices"]:
                            said += choice["delta"].get("content") or ""
                            roles += "role" in choice["delta"]
                        if event["usage"] is not None:
                            usages.append(event["usage"]["completion_tokens"])
        except httpx.TransportError as problem:
            broke = repr(problem)
        whole = f"You said: {words}"
        # One token is one byte, and one ends the answer.
        one_stream = (len(ids), roles, usages) == (1, 1, [len(whole) + 1])
        if done and said == whole and error is None and one_stream:
            self.findings.note(kind, Ended.RIGHT)
        elif error is not None and not done and whole.startswith(said):
            self.findings.note(kind, Ended.HONEST_ERROR, error)
        else:
            ends = f"{done=} {error=} {broke=} {len(ids)=} {roles=} {usages=}"
            self.findings.note(kind, Ended.WRONG, f"{ends} {len(said)} of {len(whole)} characters")
