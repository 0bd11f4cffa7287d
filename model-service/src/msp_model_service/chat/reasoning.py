"""The part of an answer in which a model thinks before it speaks. A family is an entry of data here."""

from dataclasses import dataclass

from msp_model_service.chat.stops import held_back


@dataclass(frozen=True)
class ReasoningFormat:
    """Thinking stands between two markers, at the very beginning of an answer.

    With `channels` an answer is several messages, some of them thinking; see `channels`.
    """

    name: str
    """What `reasoning` in `model.yaml` calls it."""
    start: str
    end: str
    tokens: tuple[str, ...] = ()
    """The control tokens in them, where a marker is more than one token."""
    channels: bool = False
    template_key: str = "reasoning_content"
    """What the chat template calls the thinking of an earlier turn."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Markers, which may be control tokens: they belong to the text all the same."""
        return (self.start, self.end, *self.tokens)

    def begun_in(self, prompt_end: str) -> bool:
        """Whether the prompt has opened the thinking already, so that the answer goes on in it."""
        return prompt_end.rstrip().endswith(self.start)


THINK = ReasoningFormat("think", "<think>", "</think>")
"""Qwen3, DeepSeek-R1 and its distillates, QwQ, and most others."""

BRACKETS = ReasoningFormat("brackets", "[THINK]", "[/THINK]")
"""Magistral."""

SEED = ReasoningFormat("seed", "<seed:think>", "</seed:think>")
"""Seed-OSS."""

GEMMA4 = ReasoningFormat("gemma4", "<|channel>thought", "<channel|>", tokens=("<|channel>",))
"""Gemma 4. Where thinking is off, some of its sizes open and close an empty one all the same."""

HARMONY = ReasoningFormat(
    "harmony",
    "<|channel|>",
    "<|channel|>final<|message|>",
    tokens=("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"),
    channels=True,
    template_key="thinking",
)
"""gpt-oss."""

REASONING_FORMATS = (HARMONY, GEMMA4, SEED, BRACKETS, THINK)
BY_NAME = {form.name: form for form in REASONING_FORMATS}


def reasoning_of(template: str) -> ReasoningFormat | None:
    """The format that a chat template knows: to show earlier thinking or to cut it off, it names the end."""
    return next((form for form in REASONING_FORMATS if form.end in template), None)


@dataclass(frozen=True)
class Thought:
    """Words of the thinking part."""

    text: str


class ReasoningParser:
    """Splits the beginning of an answer into thinking and the rest.

    White space around the thinking belongs to the form. Thinking that the answer's end cuts stays thinking.
    """

    def __init__(self, form: ReasoningFormat, *, begun: bool) -> None:
        """`begun`: whether the prompt has opened the thinking."""
        self._form = form
        self._held = ""
        self._state = "thinking" if begun else "before"
        self.thought = begun
        """Whether there is thinking at all."""
        self._fresh = True
        """Whether white space that comes next is to be left out."""

    @property
    def said_nothing(self) -> bool:
        """Whether content has not begun: what comes next may be thinking."""
        return self._state != "content"

    def feed(self, text: str) -> list[Thought | str]:
        """Thinking and content that `text` completes, in order."""
        self._held += text
        told: list[Thought | str] = []
        if self._state == "before":
            begun = self._held.lstrip()
            if begun.startswith(self._form.start):
                self._state, self._held = "thinking", begun.removeprefix(self._form.start)
                self.thought = True
            elif self._form.start.startswith(begun):
                return []  # not enough to tell
            else:
                self._state = "content"
                self._fresh = False
        if self._state == "thinking":
            before, found, after = self._held.partition(self._form.end)
            if found:
                told += self._thought(before.rstrip())
                self._state, self._held, self._fresh = "content", after, True
            else:
                held = held_back(self._held, (self._form.end,))
                ready = self._held[: len(self._held) - held].rstrip()
                told += self._thought(ready)
                self._held = self._held[len(ready) :]
        if self._state == "content":
            content = self._held.lstrip() if self._fresh else self._held
            self._held = ""
            if content:
                self._fresh = False
                told.append(content)
        return told

    def finish(self) -> list[Thought | str]:
        """What is left when the text has ended."""
        rest, self._held = self._held, ""
        if self._state == "thinking":
            return [*self._thought(rest.rstrip())]
        return [rest] if rest else []

    def _thought(self, text: str) -> list[Thought]:
        if self._fresh:
            text = text.lstrip()
        if not text:
            return []
        self._fresh = False
        return [Thought(text)]
