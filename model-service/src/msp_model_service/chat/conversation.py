"""A conversation as engines see it: checked, decoded and free of the wire's many spellings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from PIL.Image import Image


class Role(StrEnum):
    """Who speaks. `developer` has become `system`, `function` has become `tool`."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True)
class Text:
    """Words of a message."""

    text: str


@dataclass(frozen=True)
class Picture:
    """An image of a message, decoded and within the limits."""

    image: Image
    data: bytes
    """As it was sent, for an engine that passes it on."""
    media_type: str
    """By its content, whatever its label said."""


@dataclass(frozen=True)
class ToolCall:
    """A call that the assistant made earlier. `arguments` is what it wrote: JSON, as a rule."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    parts: tuple[Text | Picture, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    thinking: str | None = None
    """What the assistant had thought in this turn, where the client sends it back."""

    @property
    def text(self) -> str:
        """All its words; several parts are put on lines of their own."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All its images, in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))


@dataclass(frozen=True)
class Conversation:
    """What the model is to answer. Never without a message."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    """`{"type": "function", "function": {...}}`, as sent; empty when the model shall see none."""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Extra variables for the chat template (`enable_thinking`, for instance)."""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All images, in the order of the conversation."""
        return tuple(picture for message in self.messages for picture in message.pictures)
