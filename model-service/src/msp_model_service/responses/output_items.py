"""The items of an answer while they are being made, and the event that each step of it is."""

import uuid
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Protocol

Json = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]


class Item(Protocol):
    """One item. Events lack what all events of a response have: number and place."""

    type: ClassVar[str]
    id: str
    status: Status

    def json(self) -> Json:
        """The item as it is now."""

    def opening(self) -> Iterator[Json]:
        """Events behind the one that says that the item was added."""

    def add(self, text: str, logprobs: list[Json]) -> Json:
        """The event of one more piece."""

    def closing(self) -> Iterator[Json]:
        """Events before the one that says that the item is done."""


class WordsItem:
    """A message to the client."""

    type: ClassVar[str] = "message"

    def __init__(self) -> None:
        self.id = f"msg_{uuid.uuid4().hex}"
        self.status: Status = "in_progress"
        self._text = ""
        self._logprobs: list[Json] = []
        self._open = False

    def json(self) -> Json:
        """See Item."""
        return {
            "type": self.type,
            "id": self.id,
            "status": self.status,
            "role": "assistant",
            "content": [self._part()] if self._open else [],
        }

    def opening(self) -> Iterator[Json]:
        """See Item."""
        self._open = True
        yield {"type": "response.content_part.added", "content_index": 0, "part": self._part()}

    def add(self, text: str, logprobs: list[Json]) -> Json:
        """See Item."""
        self._text += text
        self._logprobs += logprobs
        return {
            "type": "response.output_text.delta",
            "content_index": 0,
            "delta": text,
            "logprobs": logprobs,
        }

    def closing(self) -> Iterator[Json]:
        """See Item."""
        yield {
            "type": "response.output_text.done",
            "content_index": 0,
            "text": self._text,
            "logprobs": self._logprobs,
        }
        yield {"type": "response.content_part.done", "content_index": 0, "part": self._part()}

    def _part(self) -> Json:
        return {
            "type": "output_text",
            "text": self._text,
            "annotations": [],
            "logprobs": list(self._logprobs),
        }


class ThoughtItem:
    """What the model thought, told whole. There is no summary of it."""

    type: ClassVar[str] = "reasoning"

    def __init__(self) -> None:
        self.id = f"rs_{uuid.uuid4().hex}"
        self.status: Status = "in_progress"
        self._text = ""
        self._open = False

    def json(self) -> Json:
        """See Item."""
        return {
            "type": self.type,
            "id": self.id,
            "status": self.status,
            "summary": [],
            "content": [self._part()] if self._open else [],
        }

    def opening(self) -> Iterator[Json]:
        """See Item."""
        self._open = True
        yield {"type": "response.content_part.added", "content_index": 0, "part": self._part()}

    def add(self, text: str, logprobs: list[Json]) -> Json:
        """See Item; thinking is told without log probabilities."""
        self._text += text
        return {"type": "response.reasoning_text.delta", "content_index": 0, "delta": text}

    def closing(self) -> Iterator[Json]:
        """See Item."""
        yield {"type": "response.reasoning_text.done", "content_index": 0, "text": self._text}
        yield {"type": "response.content_part.done", "content_index": 0, "part": self._part()}

    def _part(self) -> Json:
        return {"type": "reasoning_text", "text": self._text}


class CallItem:
    """A call of a function."""

    type: ClassVar[str] = "function_call"

    def __init__(self, call_id: str, name: str) -> None:
        self.id = f"fc_{uuid.uuid4().hex}"
        self.status: Status = "in_progress"
        self._call_id = call_id
        self._name = name
        self._arguments = ""

    def json(self) -> Json:
        """See Item."""
        return {
            "type": self.type,
            "id": self.id,
            "status": self.status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": self._arguments,
        }

    def opening(self) -> Iterator[Json]:
        """See Item."""
        return iter(())

    def add(self, text: str, logprobs: list[Json]) -> Json:
        """See Item."""
        self._arguments += text
        return {"type": "response.function_call_arguments.delta", "delta": text}

    def closing(self) -> Iterator[Json]:
        """See Item."""
        yield {
            "type": "response.function_call_arguments.done",
            "name": self._name,
            "arguments": self._arguments,
        }
