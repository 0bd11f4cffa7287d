"""From an engine's events to what a client is told: thinking, content, tool calls, and why it ended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msp_model_service.chat.channels import ChannelParser
from msp_model_service.chat.held_calls import (
    CallArguments,
    CallBegun,
    HeldCallParser,
    can_be_told_early,
)
from msp_model_service.chat.reasoning import ReasoningParser, Thought
from msp_model_service.chat.tool_calls import ParsedCall, ToolCallParser
from msp_model_service.engines.chat import Generation, PreparedPrompt, TokenEvent, TokenLogprob

Finish = Literal["stop", "length", "tool_calls"]
Part = str | Thought | ParsedCall | CallBegun | CallArguments


@dataclass(frozen=True)
class Delta:
    """What one event adds to a choice. Thinking, content and calls never come in the same part."""

    parts: tuple[Part, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    token_ids: tuple[int, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether a client need not be told."""
        return not self.parts and not self.logprobs and self.finish is None


class ChoiceReader:
    """Reads the events of one choice. Streamed or not, answers are made by this, so they are the same."""

    def __init__(
        self, prompt: PreparedPrompt, *, several_calls: bool = True, calls_held: bool = False
    ) -> None:
        """Without `several_calls`, calls after the first are left out. `calls_held`: a grammar sees to both
        that and their form."""
        self._several_calls = several_calls or calls_held
        self._calls: ToolCallParser | HeldCallParser | None = None
        if prompt.tool_format is not None and calls_held and can_be_told_early(prompt.tool_format):
            self._calls = HeldCallParser(prompt.tool_format)
        elif prompt.tool_format is not None:
            self._calls = ToolCallParser(prompt.tool_format)
        self._thinking: ReasoningParser | ChannelParser | None = None
        if prompt.reasoning is not None and prompt.reasoning.channels:
            self._thinking = ChannelParser(calls=self._calls is not None)
        elif prompt.reasoning is not None:
            self._thinking = ReasoningParser(prompt.reasoning, begun=prompt.thinks)
        self._called = False
        self.reasoning_tokens = 0
        """Tokens of the thinking part so far, its markers included."""
        self._unspoken = 0
        """Tokens so far, until the first that belongs to content."""

    def read(self, event: TokenEvent) -> Delta:
        """What the event adds."""
        parts = self._split(event)
        if event.finish is None:
            return Delta(tuple(parts), event.logprobs, token_ids=event.token_ids)
        called = self._calls is not None and self._calls.calls and event.finish == "stop"
        finish: Finish = "tool_calls" if called else event.finish
        return Delta(tuple(parts), event.logprobs, finish, event.token_ids)

    def _split(self, event: TokenEvent) -> list[Part]:
        ends = event.finish is not None
        if self._thinking is None:
            return self._with_calls([event.text] if event.text else [], ends=ends)
        before = self._thinking.said_nothing
        told = self._thinking.feed(event.text) if event.text else []
        if ends:
            told += self._thinking.finish()
        if before:
            self._unspoken += len(event.token_ids)
            if self._thinking.thought:
                self.reasoning_tokens = self._unspoken
        thoughts: list[Part] = [part for part in told if isinstance(part, Thought)]
        words = [part for part in told if isinstance(part, str)]
        return thoughts + self._with_calls(words, ends=ends)

    def _with_calls(self, words: Sequence[str], *, ends: bool) -> list[Part]:
        if self._calls is None:
            return list(words)
        parts: list[Part] = []
        for text in words:
            parts += self._calls.feed(text)
        if ends:
            parts += self._calls.finish()
        return parts if self._several_calls else self._first_call_only(parts)

    def _first_call_only(self, parts: Sequence[Part]) -> list[Part]:
        kept: list[Part] = []
        for part in parts:
            if not isinstance(part, ParsedCall) or not self._called:
                kept.append(part)
            self._called = self._called or isinstance(part, ParsedCall)
        return kept


async def merged(generations: Sequence[Generation]) -> AsyncIterator[tuple[int, TokenEvent]]:
    """Events of several generations as they come, each with its generation's index. An error ends all."""
    if len(generations) == 1:
        async for event in generations[0]:
            yield 0, event
        return
    queue: asyncio.Queue[tuple[int, TokenEvent] | None] = asyncio.Queue()

    async def forward(index: int, generation: Generation) -> None:
        try:
            async for event in generation:
                queue.put_nowait((index, event))
        finally:
            queue.put_nowait(None)

    tasks = [asyncio.create_task(forward(i, generation)) for i, generation in enumerate(generations)]
    try:
        for _ in tasks:
            while (item := await queue.get()) is not None:
                yield item
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()):
                    raise error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
