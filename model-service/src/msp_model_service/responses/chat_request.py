"""A request for a response as a request for a chat: one validation and one way to the model for both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msp_common.errors import InvalidRequest
from msp_model_service.chat.wire import (
    ChatRequest,
    GenerationFields,
    NamedSchema,
    ResponseFormat,
    WireFunction,
    WireTool,
)
from msp_model_service.responses.input_messages import InputMessages
from msp_model_service.responses.places import Places
from msp_model_service.responses.wire import FunctionTool, ResponsesRequest, TextFormat

_OWN_FIELDS = frozenset({"n", "stream", "stream_options"})
"""Of what all requests for text share: those that mean something else here."""


@dataclass(frozen=True)
class AskedChat:
    """The chat request, and where its parts stand in the client's body."""

    body: ChatRequest
    places: Places


def as_chat(body: ResponsesRequest) -> AskedChat:
    """Raises InvalidRequest in this route's own terms. What the chat finds wrong comes in the chat's."""
    places = Places()
    messages = InputMessages(places)
    if body.instructions is not None:
        messages.add_instructions(body.instructions)
    messages.add_items(body.input)
    shared = {name: getattr(body, name) for name in GenerationFields.model_fields if name not in _OWN_FIELDS}
    chat = ChatRequest(
        **shared,
        messages=messages.taken(),
        max_completion_tokens=body.max_output_tokens,
        logprobs=body.wants_logprobs,
        top_logprobs=(body.top_logprobs or 0) if body.wants_logprobs else None,
        tools=None if body.tools is None else list(_tools(body.tools, places)),
        tool_choice=_tool_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_format(body.text.format) if body.text and body.text.format else None,
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        chat_template_kwargs=body.chat_template_kwargs,
    )
    return AskedChat(chat, places)


def _tools(tools: list[FunctionTool], places: Places) -> Iterator[WireTool]:
    """As the chat has them; the template is shown what the client said of them, and no more."""
    for i, tool in enumerate(tools):
        places.note(f"tools.{i}.function", f"tools.{i}")
        if tool.name is None:
            raise _invalid(f"tools.{i}.name", "Field required")
        said = tool.model_dump(include={"name", "description", "parameters", "strict"}, exclude_unset=True)
        yield WireTool(type=tool.type, function=WireFunction(**said))


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str) or choice is None:
        return choice
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        return _named(choice, "tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        tools = choice.get("tools")
        if not isinstance(tools, list):
            raise _invalid("tool_choice.tools", "it is a list of functions")
        named = [_named(tool, f"tool_choice.tools.{i}") for i, tool in enumerate(tools)]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": named}}
    raise InvalidRequest(
        "Unsupported value for 'tool_choice': it is none of 'none', 'auto', 'required', a function "
        '({"type": "function", "name": ...}) and allowed tools.',
        param="tool_choice",
        code="unsupported_value",
    )


def _named(choice: Any, param: str) -> dict[str, Any]:
    name = choice.get("name") if isinstance(choice, Mapping) else None
    if not isinstance(name, str):
        raise _invalid(param, 'a function is named as {"type": "function", "name": ...}')
    return {"type": "function", "function": {"name": name}}


def _format(form: TextFormat) -> ResponseFormat:
    if form.type != "json_schema":
        return ResponseFormat(type=form.type)
    if form.name is None:
        raise _invalid("text.format.name", "Field required")
    named = NamedSchema(name=form.name, description=form.description, schema=form.json_schema)
    return ResponseFormat(type=form.type, json_schema=named)


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': {reason}.", param=param, code="invalid_value")
