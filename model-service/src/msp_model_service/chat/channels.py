"""Answers that are several messages, each with a head that says to whom it is: OpenAI's harmony.

    <|channel|>analysis<|message|>THINKING<|end|><|start|>assistant<|channel|>final<|message|>WORDS
    <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>ARGUMENTS<|call|>

The head of a call is written in several orders; the first one's `<|start|>assistant` is in the prompt.
"""

import re
from collections.abc import Iterator
from enum import StrEnum

from msp_model_service.chat.reasoning import Thought
from msp_model_service.chat.stops import held_back
from msp_model_service.chat.tool_formats import HARMONY as CALLS

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_CHANNEL = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")
_RECIPIENT = re.compile(r"to=([^\s<]+)")
_FUNCTIONS = "functions."
_LONGEST_HEAD = 256
"""Characters; what has no message so long after its beginning is no head."""


class _State(StrEnum):
    FIRST = "first"
    """Nothing is known: a model may do without channels."""
    HEAD = "head"
    BODY = "body"
    BETWEEN = "between"
    PLAIN = "plain"
    """Words without a message around them, to the end."""


class _Kind(StrEnum):
    THINKING = "thinking"
    WORDS = "words"
    CALL = "call"


class ChannelParser:
    """Splits an answer into thinking and the rest; see ReasoningParser.

    The analysis is thinking, and so is what goes to tools of the model's own. Calls of functions come out in
    the one form that `tool_formats.HARMONY` describes. Messages of one kind have an empty line between them.
    """

    def __init__(self, *, calls: bool) -> None:
        """`calls`: whether somebody reads calls; without, their arguments are words."""
        self._calls = calls
        self._state = _State.FIRST
        self._kind = _Kind.WORDS
        self._held = ""
        self._told: set[_Kind] = set()
        self._gap = ""
        """What stands before the next piece of this message."""
        self.said_nothing = True
        """Whether content has not begun: what comes next may be thinking."""

    @property
    def thought(self) -> bool:
        """Whether there is thinking at all."""
        return _Kind.THINKING in self._told

    def feed(self, text: str) -> list[Thought | str]:
        """Thinking and content that `text` completes, in order."""
        self._held += text
        return list(self._read())

    def finish(self) -> list[Thought | str]:
        """What is left when the text has ended; a head without its message is nobody's."""
        rest, self._held = self._held, ""
        if self._state is _State.FIRST and not rest.lstrip().startswith((START, CHANNEL)):
            return list(self._tell(rest))
        return list(self._tell(rest)) if self._state in (_State.BODY, _State.PLAIN) else []

    def _read(self) -> Iterator[Thought | str]:
        while True:
            before = (self._state, self._held)
            match self._state:
                case _State.FIRST:
                    self._look_for_head((START, CHANNEL, "to="))
                case _State.BETWEEN:
                    self._look_for_head((START, CHANNEL))
                case _State.HEAD:
                    yield from self._read_head()
                case _State.BODY:
                    yield from self._read_body()
                case _State.PLAIN:
                    text, self._held = self._held, ""
                    yield from self._tell(text)
            if (self._state, self._held) == before:
                return

    def _look_for_head(self, beginnings: tuple[str, ...]) -> None:
        begun = self._held.lstrip()
        if begun.startswith(beginnings):
            self._state = _State.HEAD
        elif not any(beginning.startswith(begun) for beginning in beginnings):
            self._state, self._kind = _State.PLAIN, _Kind.WORDS

    def _read_head(self) -> Iterator[str]:
        head, found, rest = self._held.partition(MESSAGE)
        if not found:
            if len(head) > _LONGEST_HEAD:
                self._state, self._kind = _State.PLAIN, _Kind.WORDS
            return
        self._state, self._held = _State.BODY, rest
        recipient, channel = _RECIPIENT.search(head), _CHANNEL.search(head)
        to = recipient[1] if recipient else ""
        if to.startswith(_FUNCTIONS):
            self._kind = _Kind.CALL if self._calls else _Kind.WORDS
            if self._calls:
                self.said_nothing = False
                yield CALLS.start + to.removeprefix(_FUNCTIONS) + CALLS.inner
        elif "." in to or to in ("python", "browser") or (channel is not None and channel[1] == "analysis"):
            self._kind = _Kind.THINKING
        else:
            self._kind = _Kind.WORDS
        self._gap = "\n\n" if self._kind in self._told else ""

    def _read_body(self) -> Iterator[Thought | str]:
        found = [(at, end) for end in (*_ENDS, START) if (at := self._held.find(end)) >= 0]
        if found:
            at, end = min(found)
            text = self._held[:at]
            self._held = self._held[at:] if end == START else self._held[at + len(end) :]
        else:
            at = len(self._held) - held_back(self._held, (*_ENDS, START))
            text, self._held = self._held[:at], self._held[at:]
        yield from self._tell(text)
        if found:
            self._state = _State.BETWEEN
            if self._kind is _Kind.CALL:
                yield CALLS.end

    def _tell(self, text: str) -> Iterator[Thought | str]:
        if not text:
            return
        if self._kind is not _Kind.CALL:
            text, self._gap = self._gap + text, ""
        self._told.add(self._kind)
        self.said_nothing &= self._kind is _Kind.THINKING
        yield Thought(text) if self._kind is _Kind.THINKING else text
