"""From an engine's events to what a client is told: content, tool calls, and why it ended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msp_model_service.chat.tool_calls import ParsedCall, ToolCallParser
from msp_model_service.chat.tool_formats import ToolFormat
from msp_model_service.engines.chat import Generation, TokenEvent, TokenLogprob

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Delta:
    """What one event adds to a choice. Content and calls never come in the same part."""

    parts: tuple[str | ParsedCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None

    @property
    def empty(self) -> bool:
        """Whether a client need not be told."""
        return not self.parts and not self.logprobs and self.finish is None


class ChoiceReader:
    """Reads the events of one choice. Streamed or not, answers are made by this, so they are the same."""

    def __init__(self, form: ToolFormat | None) -> None:
        self._parser = ToolCallParser(form) if form is not None else None

    def read(self, event: TokenEvent) -> Delta:
        """What the event adds."""
        if self._parser is None:
            return Delta((event.text,) if event.text else (), event.logprobs, event.finish)
        parts = self._parser.feed(event.text) if event.text else []
        if event.finish is None:
            return Delta(tuple(parts), event.logprobs)
        parts += self._parser.finish()
        called = self._parser.calls and event.finish == "stop"
        return Delta(tuple(parts), event.logprobs, "tool_calls" if called else event.finish)


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
