"""The form that an answer must have, as a request asks for it: JSON of a schema, or tool calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msp_common.errors import InvalidRequest
from msp_model_service.chat.json_schemas import DEFAULT_LIMITS, SchemaLimits, check_schema
from msp_model_service.chat.wire import ChatRequest, ResponseFormat, WireFunction, WireTool

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True)
class JsonForm:
    """The answer is JSON that validates against `schema`."""

    schema: Mapping[str, Any]
    param: str
    """Where the request says so."""


@dataclass(frozen=True)
class CallSchema:
    """A function, and a JSON schema of its arguments."""

    name: str
    arguments: Mapping[str, Any]
    strict: bool
    """Whether keywords of the schema that cannot be held to are refused, not passed over."""
    param: str


@dataclass(frozen=True)
class CallForm:
    """The answer is one call of these functions, or several."""

    functions: tuple[CallSchema, ...]
    several: bool
    instead: JsonForm | None = None
    """What the answer may be in place of calls."""
    free: bool = False
    """Whether words may stand before, behind and in place of calls; only the calls are then held to."""


AnswerForm = JsonForm | CallForm


@dataclass(frozen=True)
class ToolChoice:
    """What `tool_choice` means for the tools of a request."""

    shown: tuple[WireTool, ...]
    """What the model is to see."""
    forced: bool
    """Whether it has to call one of them."""


def read_tool_choice(body: ChatRequest) -> ToolChoice:
    """Raises InvalidRequest for choices that are unknown, or that name a function which is not there."""
    tools, choice = tuple(body.tools or ()), body.tool_choice
    if choice in (None, "auto"):
        return ToolChoice(tools, forced=False)
    if choice == "none":
        return ToolChoice((), forced=False)
    if choice == "required":
        return ToolChoice(_some(tools, "'required' needs 'tools' to choose from"), forced=True)
    if isinstance(choice, dict) and choice.get("type") == "function":
        return ToolChoice(_named(tools, [choice], "tool_choice"), forced=True)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        names = allowed.get("tools") if isinstance(allowed, dict) else None
        mode = allowed.get("mode", "auto") if isinstance(allowed, dict) else None
        if not isinstance(names, list) or mode not in ("auto", "required"):
            raise _invalid("tool_choice.allowed_tools", "it needs a list 'tools' and a 'mode'")
        shown = _named(tools, names, "tool_choice.allowed_tools.tools")
        return ToolChoice(shown, forced=mode == "required")
    raise InvalidRequest(
        "Unsupported value for 'tool_choice': it is none of 'none', 'auto', 'required', a function "
        '({"type": "function", "function": {"name": ...}}) and allowed tools.',
        param="tool_choice",
        code="unsupported_value",
    )


def read_form(
    body: ChatRequest, choice: ToolChoice, limits: SchemaLimits = DEFAULT_LIMITS
) -> AnswerForm | None:
    """The form; None where the answer is free. Raises InvalidRequest, naming the place within a schema.

    Where a tool is strict, calls of the model's own choice are held to the schemas too.
    """
    json_form = _json_form(body.response_format, limits) if body.response_format is not None else None
    strict = any(tool.function is not None and tool.function.strict for tool in choice.shown)
    free = not choice.forced and json_form is None and strict
    if not choice.forced and not free and (json_form is None or not choice.shown):
        return json_form
    functions = tuple(
        _call_schema(tool.function, f"tools.{i}.function.parameters", limits)
        for i, tool in enumerate(body.tools or ())
        if tool in choice.shown and tool.function is not None
    )
    several = body.parallel_tool_calls is not False
    return CallForm(functions, several, instead=None if choice.forced else json_form, free=free)


def _json_form(wanted: ResponseFormat, limits: SchemaLimits) -> JsonForm | None:
    if wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return JsonForm(ANY_OBJECT, "response_format")
    if wanted.type != "json_schema":
        raise InvalidRequest(
            f"Unsupported value for 'response_format': {wanted.type!r} is no known format; "
            "it may be 'text', 'json_object' or 'json_schema'.",
            param="response_format",
            code="unsupported_value",
        )
    if wanted.json_schema is None:
        raise _invalid("response_format.json_schema", "Field required")
    param = "response_format.json_schema.schema"
    schema = wanted.json_schema.json_schema
    check_schema(ANY_OBJECT if schema is None else schema, param, limits)
    return JsonForm(ANY_OBJECT if schema is None else schema, param)


def _call_schema(function: WireFunction, param: str, limits: SchemaLimits) -> CallSchema:
    schema = function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    check_schema(schema, param, limits)
    if schema.get("type", "object") != "object":
        raise _invalid(f"{param}.type", "the arguments of a function are an object")
    return CallSchema(function.name, {**schema, "type": "object"}, bool(function.strict), param)


def _named(tools: tuple[WireTool, ...], named: list[Any], param: str) -> tuple[WireTool, ...]:
    chosen = []
    for one in named:
        function = one.get("function") if isinstance(one, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str):
            raise _invalid(param, 'a function is named as {"type": "function", "function": {"name": ...}}')
        tool = next((t for t in tools if t.function is not None and t.function.name == name), None)
        if tool is None:
            raise _invalid(param, f"{name!r} is not among the 'tools'")
        chosen.append(tool)
    return _some(tuple(chosen), "it names no tool")


def _some(tools: tuple[WireTool, ...], otherwise: str) -> tuple[WireTool, ...]:
    if not tools:
        raise _invalid("tool_choice", otherwise)
    return tools


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': {reason}.", param=param, code="invalid_value")
