"""Tool calls told while they are being written, where a grammar holds the answer to their form.

Without a grammar a call may turn out to be none, and is told only when it is whole; see `tool_calls`.
"""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from msp_model_service.chat.stops import held_back
from msp_model_service.chat.tool_formats import CallShape, ToolFormat


@dataclass(frozen=True)
class CallBegun:
    """A call of this function begins; its arguments follow."""

    id: str
    name: str


@dataclass(frozen=True)
class CallArguments:
    """A piece of the arguments of the call that began last."""

    text: str


HeldPart = str | CallBegun | CallArguments


def can_be_told_early(form: ToolFormat) -> bool:
    """Whether the name comes first and the arguments stand as JSON, one call after the other."""
    return form.shape in (CallShape.OBJECT, CallShape.NAMED)


class HeldCallParser:
    """Splits text into content and pieces of calls. White space next to a call belongs to the form."""

    def __init__(self, form: ToolFormat) -> None:
        self._form = form
        self._rest = ""
        self._state = "head" if form.bare else "words"
        self._head = _head(form)
        # What stands behind the arguments; a string in JSON cannot hold it.
        self._closing = (
            f"}}{form.around}{form.end}" if form.shape is CallShape.OBJECT else form.end or form.start
        )
        self._told = ""
        """Of the arguments of the call being read."""
        self.calls = 0

    def feed(self, text: str) -> list[HeldPart]:
        """Content and pieces of calls that `text` completes, in order."""
        self._rest += text
        told: list[HeldPart] = []
        while True:
            before = (self._state, self._rest)
            told += self._step()
            if before == (self._state, self._rest):
                return told

    def finish(self) -> list[HeldPart]:
        """What is left when the text has ended; cut calls are told as far as they went."""
        rest, self._rest = self._rest, ""
        if self._state == "arguments":
            return [*self._arguments(self._whole(rest))]
        return [rest] if rest.strip() and not self.calls else []

    def _step(self) -> Iterator[HeldPart]:
        if self._state == "words":
            yield from self._words()
        elif self._state == "head":
            yield from self._begin()
        elif self._form.bare:  # the answer's end is the call's, and one of the last braces closes it
            ready = self._rest.rstrip("} \n")
            self._rest = self._rest[len(ready) :]
            yield from self._arguments(ready)
        else:
            before, found, after = self._rest.partition(self._closing)
            if found:
                self._rest = after
                self._state = "words" if self._form.end else "head"
                yield from self._arguments(before.rstrip())
            else:
                ready = self._rest[: len(self._rest) - held_back(self._rest, (self._closing,))]
                self._rest = self._rest[len(ready) :]
                yield from self._arguments(ready)

    def _words(self) -> Iterator[str]:
        before, found, after = self._rest.partition(self._form.start)
        if found:
            self._state, self._rest = "head", after
            content = before.rstrip()
        else:
            held = held_back(before, (self._form.start,))
            content = before[: len(before) - held].rstrip()
            self._rest = before[len(content) :]
        if self.calls:
            content = content.lstrip()
        if content:
            yield content

    def _begin(self) -> Iterator[HeldPart]:
        begun = self._rest.lstrip()
        if self._form.bare and begun and not self.calls and not begun.startswith("{"):
            self._state = "words"
            return
        head = self._head.match(begun)
        if head is not None:
            self._state, self._rest, self._told = "arguments", begun[head.end() :], ""
            self.calls += 1
            name = json.loads(head[1]) if self._form.shape is CallShape.OBJECT else head[1]
            yield CallBegun(f"call_{uuid.uuid4().hex[:24]}", name)

    def _arguments(self, text: str) -> Iterator[CallArguments]:
        self._told += text
        if text:
            yield CallArguments(text)

    def _whole(self, rest: str) -> str:
        """The last piece, without what closes the call; all of it where the answer was cut."""
        text = rest.rstrip().removesuffix(self._form.end).rstrip()
        for piece in (text, text.removesuffix("}")):
            try:
                json.loads(self._told + piece)
            except (ValueError, RecursionError):
                continue
            return piece
        return rest


def _head(form: ToolFormat) -> re.Pattern[str]:
    if form.shape is CallShape.NAMED:
        return re.compile(r"(.+?)" + re.escape(form.inner), re.DOTALL)
    name, arguments = re.escape(form.name_key), re.escape(form.arguments_key)
    return re.compile(rf'\{{"{name}": ("(?:[^"\\]|\\.)*"), "{arguments}": ')
