"""From the wire to a Conversation: what the model cannot take is refused by the name of its field."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msp_common.contracts.workers import Capabilities
from msp_common.errors import InvalidRequest
from msp_model_service.chat import markdown_images
from msp_model_service.chat.conversation import Conversation, Message, Picture, Role, Text, ToolCall
from msp_model_service.chat.images import ImageLimits, read_data_uri
from msp_model_service.chat.wire import ChatRequest, WireMessage, WirePart, WireTool

T = TypeVar("T")
_ROLES = {"developer": Role.SYSTEM, "function": Role.TOOL}


def read_conversation(
    body: ChatRequest, can: Capabilities, limits: ImageLimits, shown: Sequence[WireTool] | None = None
) -> Conversation:
    """The conversation of a request. Decodes images, so it belongs into a thread. Raises InvalidRequest.

    `shown` are the tools that the model is to see; without it, all of them.
    """
    reader = _Reader("image" in can.input_modalities, limits)
    messages = tuple(
        message
        for i, wire in enumerate(body.messages)
        if (message := reader.message(wire, f"messages.{i}")) is not None
    )
    if not messages:
        raise InvalidRequest(
            "There is nothing to answer: all messages are empty.", param="messages", code="invalid_value"
        )
    return Conversation(messages, _tools(body, can, shown), _template_arguments(body))


def _template_arguments(body: ChatRequest) -> dict[str, object]:
    """Variables for the template, those that the client names itself on top."""
    given: dict[str, object] = {}
    if body.reasoning_effort is not None:
        given["reasoning_effort"] = body.reasoning_effort
        if body.reasoning_effort == "none":
            given["enable_thinking"] = False
    return {**given, **(body.chat_template_kwargs or {})}


def _tools(
    body: ChatRequest, can: Capabilities, shown: Sequence[WireTool] | None
) -> tuple[dict[str, object], ...]:
    """The tools that the model is to see."""
    if body.functions:
        raise _unsupported("functions", "'functions' is the form before 'tools'; send 'tools'")
    for i, tool in enumerate(body.tools or ()):
        _tool(tool, f"tools.{i}")
    tools = tuple(_tool(tool, "tools") for tool in (body.tools or () if shown is None else shown))
    if not tools:
        return ()
    if not can.tools:
        raise _unsupported("tools", "this model's chat template has no place for tools")
    return tools


def _tool(tool: WireTool, param: str) -> dict[str, object]:
    if tool.type != "function":
        raise _unsupported(f"{param}.type", f"{tool.type!r} tools are not supported, only 'function'")
    if tool.function is None:
        raise InvalidRequest(
            f"Invalid value for '{param}.function': Field required.",
            param=f"{param}.function",
            code="invalid_value",
        )
    return {"type": "function", "function": tool.function.model_dump(exclude_unset=True)}


def _unsupported(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported value for '{param}': {reason}.", param=param, code="unsupported_value"
    )


@dataclass
class _Reader:
    """Reads the messages of one request; counts its images."""

    sees_images: bool
    limits: ImageLimits
    pictures: int = 0
    pixels: int = 0

    def message(self, wire: WireMessage, param: str) -> Message | None:
        """The message; None for an empty system message, which some clients always send first."""
        role = _ROLES.get(wire.role) or Role(wire.role)
        if wire.content is None and role is Role.USER:
            raise InvalidRequest(
                f"Invalid value for '{param}.content': a user's message needs content.",
                param=f"{param}.content",
                code="invalid_value",
            )
        parts = tuple(self._parts(wire, role, f"{param}.content"))
        if role is Role.SYSTEM and not any(isinstance(p, Text) and p.text.strip() for p in parts):
            return None
        if wire.role == "tool" and wire.tool_call_id is None:
            raise InvalidRequest(
                f"Invalid value for '{param}.tool_call_id': it names the call that this answers.",
                param=f"{param}.tool_call_id",
                code="invalid_value",
            )
        if role is Role.ASSISTANT and wire.refusal and not parts:
            parts = (Text(wire.refusal),)
        calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in wire.tool_calls or ())
        thinking = wire.reasoning_content if role is Role.ASSISTANT else None
        return Message(role, parts, calls, wire.tool_call_id, wire.name, thinking)

    def _parts(self, wire: WireMessage, role: Role, param: str) -> Iterator[Text | Picture]:
        for i, part in enumerate(wire.content or ()):
            if part.type == "text":
                yield from self._text(_needed(part.text, f"{param}.{i}.text"), role, param, i)
            elif part.type == "refusal" and role is Role.ASSISTANT:
                yield Text(_needed(part.refusal, f"{param}.{i}.refusal"))
            elif part.type == "image_url" and role is Role.USER:
                yield self._picture(part, f"{param}.{i}.image_url")
            else:
                raise InvalidRequest(
                    f"Unsupported content in '{param}.{i}': {_article(part.type)} part cannot be used in a "
                    f"{role.value} message of this model.",
                    param=f"{param}.{i}.{part.type}" if part.type in _KNOWN_PARTS else f"{param}.{i}.type",
                    code="unsupported_value",
                )

    def _picture(self, part: WirePart, param: str) -> Picture:
        if not self.sees_images:
            raise _unsupported(param, "this model takes text only")
        url = _needed(part.image_url, param).url
        return self._counted(read_data_uri(url, self.limits, param), param)

    def _text(self, text: str, role: Role, param: str, i: int) -> Iterator[Text | Picture]:
        """Words, preceded by the images that were hidden in them."""
        words, urls = markdown_images.lift(text)
        if self.sees_images and role is Role.USER:
            where = f"{param}.{i}.text"
            for url in urls:
                picture = read_data_uri(url, self.limits, where)
                if not markdown_images.is_placeholder(picture):
                    yield self._counted(picture, where)
        yield Text(words)

    def _counted(self, picture: Picture, param: str) -> Picture:
        self.pictures += 1
        self.pixels += picture.image.width * picture.image.height
        if self.pictures > self.limits.count:
            raise InvalidRequest(
                f"The request has more than {self.limits.count} images.", param=param, code="too_many_images"
            )
        if self.pixels > self.limits.pixels_all:
            raise InvalidRequest(
                f"The images of the request have more than {self.limits.pixels_all} pixels together.",
                param=param,
                code="image_too_large",
            )
        return picture


_KNOWN_PARTS = ("image_url", "input_audio", "file", "refusal")


def _needed(value: T | None, param: str) -> T:
    if value is None:
        raise InvalidRequest(
            f"Invalid value for '{param}': Field required.", param=param, code="invalid_value"
        )
    return value


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name!r}"
