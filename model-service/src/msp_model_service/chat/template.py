"""What a model's chat template accepts, found out by trying it, and conversations in the shape it accepts.

Families differ in how content is spelt, whether a system role exists, whether roles must alternate and how
tools are shown. All that is data in a TemplateProfile; nothing else asks which family a model is of.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from jinja2.exceptions import TemplateError

from msp_model_service.chat.conversation import Conversation, Message, Picture, Role, Text, ToolCall
from msp_model_service.chat.reasoning import ReasoningFormat
from msp_model_service.chat.tool_formats import ToolFormat, format_of

Render = Callable[[list[dict[str, Any]], list[dict[str, Any]] | None], str]
"""Apply the template to messages and tools. Raises what the template raises."""

REFUSALS = (TemplateError, TypeError, ValueError, KeyError, AttributeError, RecursionError)
"""What templates raise: their own `raise_exception`, or an operation that the given data does not allow."""

MARK = "xyzzy"


@dataclass(frozen=True)
class TemplateProfile:
    """How to speak to one chat template."""

    content: Literal["string", "parts"] = "string"
    """Whether a message's content is one string or a list of typed parts."""
    system_role: bool = True
    """Without one, system messages are put before the first user's words."""
    alternates: bool = False
    """Whether two turns of one role in a row are refused; they are then joined."""
    tool_format: ToolFormat | None = None
    """Null where the template shows no tools, or writes calls in a form not known here."""
    reasoning: ReasoningFormat | None = None
    """Null where the model does not think before it speaks."""


def probe(render: Render, *, sees_images: bool) -> TemplateProfile | None:
    """The profile of a template; None where it cannot be used at all."""
    contents: tuple[Literal["string", "parts"], ...] = ("parts",) if sees_images else ("string", "parts")
    for content in contents:
        profile = TemplateProfile(content)
        if _shows(render, profile, (_said(Role.USER),)):
            return replace(
                profile,
                system_role=_shows(render, profile, (_said(Role.SYSTEM), _said(Role.USER, "hello"))),
                alternates=not _shows(render, profile, (_said(Role.USER, "hello"), _said(Role.USER))),
                tool_format=_tool_format(render, profile),
            )
    return None


def template_messages(conversation: Conversation, profile: TemplateProfile) -> list[dict[str, Any]]:
    """The conversation as the template wants it. Images are PIL images, never names or addresses."""
    messages: Iterable[Message] = conversation.messages
    if not profile.system_role:
        messages = _with_system_folded(list(messages))
    if profile.alternates:
        messages = _with_neighbours_joined(messages)
    return [_as_dict(message, profile) for message in messages]


def _said(role: Role, text: str = MARK) -> Message:
    return Message(role, (Text(text),))


def _shows(render: Render, profile: TemplateProfile, messages: tuple[Message, ...]) -> bool:
    """Whether the template accepts these messages and repeats the mark as text, not as the repr of a list."""
    try:
        rendered = render(template_messages(Conversation(messages), profile), None)
    except REFUSALS:
        return False
    return MARK in rendered and "'type'" not in rendered


def _tool_format(render: Render, profile: TemplateProfile) -> ToolFormat | None:
    tool = {
        "type": "function",
        "function": {
            "name": MARK,
            "description": "probe",
            "parameters": {"type": "object", "properties": {}},
        },
    }
    # Nine letters and digits: some of Mistral's templates refuse any other id.
    call = Message(Role.ASSISTANT, tool_calls=(ToolCall("callprobe", "probe", "{}"),))
    answer = Message(Role.TOOL, (Text("done"),), tool_call_id="callprobe", name="probe")
    talk = Conversation((_said(Role.USER, "hello"), call, answer))
    try:
        shown = render(template_messages(Conversation(talk.messages[:1]), profile), [tool])
        return format_of(render(template_messages(talk, profile), [tool])) if MARK in shown else None
    except REFUSALS:
        return None


def _with_system_folded(messages: list[Message]) -> list[Message]:
    system = [Text(message.text) for message in messages if message.role is Role.SYSTEM]
    others = [message for message in messages if message.role is not Role.SYSTEM]
    if not system:
        return others
    prefix = Text("\n\n".join(part.text for part in system) + "\n")
    at = next((i for i, message in enumerate(others) if message.role is Role.USER), None)
    if at is None:
        return [Message(Role.USER, (prefix,)), *others]
    return [*others[:at], replace(others[at], parts=(prefix, *others[at].parts)), *others[at + 1 :]]


def _with_neighbours_joined(messages: Iterable[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        plain = message.role in (Role.USER, Role.ASSISTANT) and not message.tool_calls
        if last is not None and plain and last.role is message.role and not last.tool_calls:
            joined[-1] = replace(last, parts=(*last.parts, *message.parts))
        else:
            joined.append(message)
    return joined


def _as_dict(message: Message, profile: TemplateProfile) -> dict[str, Any]:
    given: dict[str, Any] = {"role": message.role.value}
    if profile.content == "string":
        given["content"] = message.text
    else:
        given["content"] = [_as_part(part) for part in message.parts]
    if message.name is not None:
        given["name"] = message.name
    form = profile.reasoning
    # gpt-oss's template refuses calls that have both words and thinking.
    refused = form is not None and form.channels and message.tool_calls and message.text
    if form is not None and message.thinking is not None and not refused:
        given[form.template_key] = message.thinking
    if message.tool_call_id is not None:
        given["tool_call_id"] = _call_id(message.tool_call_id, profile)
    if message.tool_calls:
        given["tool_calls"] = [
            {
                "type": "function",
                "id": _call_id(c.id, profile),
                "function": {"name": c.name, "arguments": _arguments(c.arguments)},
            }
            for c in message.tool_calls
        ]
    return given


def _call_id(call_id: str, profile: TemplateProfile) -> str:
    """The id, or one of the length that the family insists on; the same for the same id."""
    length = profile.tool_format.id_length if profile.tool_format is not None else None
    if length is None or (len(call_id) == length and call_id.isalnum()):
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:length]


def _as_part(part: Text | Picture) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image", "image": part.image}


def _arguments(text: str) -> Mapping[str, Any] | str:
    """Templates write arguments as JSON themselves, so they want the object; what is none stays as it is."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return arguments if isinstance(arguments, dict) else text
