"""OpenAI's JSON of chat completions, whole and in chunks."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msp_common import sse
from msp_model_service.chat.choices import Delta, Finish, Part
from msp_model_service.chat.held_calls import CallArguments, CallBegun
from msp_model_service.chat.reasoning import Thought
from msp_model_service.chat.tool_calls import ParsedCall
from msp_model_service.engines.chat import Likelihood, TokenLogprob, Usage

Json = dict[str, Any]


def frame(body: Json) -> bytes:
    """One event. ASCII only: some clients' line splitters break at U+2028 and its like."""
    return sse.frame(json.dumps(body, ensure_ascii=True, separators=(",", ":")))


def usage_json(usage: Usage, reasoning_tokens: int | None = None) -> Json:
    """OpenAI's `usage`; `reasoning_tokens` of a model that thinks."""
    body: Json = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return body


def logprobs_json(logprobs: Sequence[TokenLogprob]) -> Json:
    """The `logprobs` of a choice or chunk."""
    content = [
        {**_likelihood(one), "top_logprobs": [_likelihood(other) for other in one.top]} for one in logprobs
    ]
    return {"content": content, "refusal": None}


def _likelihood(one: Likelihood) -> Json:
    return {
        "token": one.bytes.decode("utf-8", "replace"),
        "logprob": max(one.logprob, -9999.0),
        "bytes": list(one.bytes),
    }


@dataclass
class AnswerHead:
    """What all chunks of one answer have in common."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, object_name: str, choices: Sequence[Json]) -> Json:
        """A body with these choices."""
        return {
            "id": self.id,
            "object": object_name,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
        }


@dataclass
class WholeChoice:
    """Gathers one choice of an answer that is not streamed."""

    with_logprobs: bool
    text: str = ""
    thinking: str | None = None
    calls: list[ParsedCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, delta: Delta) -> None:
        """One more delta."""
        for part in delta.parts:
            if isinstance(part, ParsedCall):
                self.calls.append(part)
            elif isinstance(part, CallBegun):
                self.calls.append(ParsedCall(part.id, part.name, ""))
            elif isinstance(part, CallArguments):
                self.calls[-1] = replace(self.calls[-1], arguments=self.calls[-1].arguments + part.text)
            elif isinstance(part, Thought):
                self.thinking = (self.thinking or "") + part.text
            else:
                self.text += part
        self.logprobs += delta.logprobs
        self.finish = delta.finish or self.finish

    def json(self, index: int) -> Json:
        """The choice."""
        message: Json = {"role": "assistant", "content": self.text, "refusal": None}
        if self.thinking is not None:
            message["reasoning_content"] = self.thinking
        if self.calls:
            message["content"] = self.text or None
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.calls
            ]
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs_json(self.logprobs) if self.with_logprobs else None,
            "finish_reason": self.finish,
        }


@dataclass
class ChunkedChoice:
    """Writes one choice of a streamed answer: role once, ids and names of calls once, the reason last."""

    index: int
    with_logprobs: bool
    opened: bool = False
    calls: int = 0

    def choices(self, delta: Delta) -> Iterator[Json]:
        """What the client is told of one delta; log probabilities go with its first piece."""
        if delta.empty:
            return
        if not self.opened:
            self.opened = True
            calls_only = bool(delta.parts) and isinstance(delta.parts[0], ParsedCall | CallBegun)
            yield self._choice({"role": "assistant", "content": None if calls_only else "", "refusal": None})
        pieces = [piece for part in delta.parts for piece in self._pieces(part)]
        if not pieces and delta.logprobs:
            pieces = [{"content": ""}]
        for i, piece in enumerate(pieces):
            yield self._choice(piece, delta.logprobs if i == 0 else ())
        if delta.finish is not None:
            yield self._choice({}, finish=delta.finish)

    def _pieces(self, part: Part) -> Iterator[Json]:
        if isinstance(part, str):
            yield {"content": part}
            return
        if isinstance(part, Thought):
            yield {"reasoning_content": part.text}
            return
        if isinstance(part, CallArguments):
            yield {"tool_calls": [{"index": self.calls - 1, "function": {"arguments": part.text}}]}
            return
        index, self.calls = self.calls, self.calls + 1
        head = {"name": part.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": part.id, "type": "function", "function": head}]}
        if isinstance(part, ParsedCall):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part.arguments}}]}

    def _choice(
        self, delta: Json, logprobs: Sequence[TokenLogprob] = (), finish: Finish | None = None
    ) -> Json:
        told = logprobs_json(logprobs) if self.with_logprobs and logprobs else None
        return {"index": self.index, "delta": delta, "logprobs": told, "finish_reason": finish}
