"""What stands between a tool format's markers, read as calls. Not sound means no call, never an error."""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

from msp_model_service.chat.tool_formats import CallShape, ToolFormat


@dataclass(frozen=True)
class ParsedCall:
    """One complete call. `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


_FUNCTION = re.compile(r"\s*<function=([^>\s]+)>(.*?)(?:</function>)?\s*", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_BRACES = re.compile(r"\s*call:([^\s{]+)\{")
_BARE_KEY = re.compile(r"([{,]\s*)([^\s{}\[\],:\"]+)\s*:")
_CALL_ID = re.compile(r"\[CALL_ID\][^\[]*")
"""Some of Mistral's versions put an id behind the name."""
_decoder = json.JSONDecoder()


def read_calls(body: str, form: ToolFormat) -> list[ParsedCall]:
    """The calls that `body` describes; none where any of it is not sound."""
    match form.shape:
        case CallShape.ELEMENTS:
            return _elements(body)
        case CallShape.BRACES:
            return _braces(body, form)
        case CallShape.NAMED:
            return _named(body, form)
        case _:
            return _objects(body, form)


def _objects(body: str, form: ToolFormat) -> list[ParsedCall]:
    """Objects, or lists of objects, one after the other."""
    found: list[Any] = []
    rest = body.strip()
    try:
        while rest:
            value, end = _decoder.raw_decode(rest)
            found += value if isinstance(value, list) else [value]
            rest = rest[end:].lstrip().removeprefix(form.separator.strip() or ",").lstrip()
    except (ValueError, RecursionError):
        return []
    calls = [_object(value, form) for value in found]
    return [call for call in calls if call is not None] if all(calls) else []


def _object(value: Any, form: ToolFormat) -> ParsedCall | None:
    if not isinstance(value, dict):
        return None
    if form.bare and form.arguments_key not in value:
        return None  # some JSON with a name in it, not a call
    return _call(value.get(form.name_key), value.get(form.arguments_key, {}))


def _named(body: str, form: ToolFormat) -> list[ParsedCall]:
    if body.lstrip().startswith("["):
        return _objects(body, form)  # models fall back into their family's older way
    name, found, arguments = _CALL_ID.sub("", body).partition(form.inner)
    if not found and (at := body.find("{")) > 0:
        name, arguments = body[:at], body[at:]
    try:
        call = _call(name.strip(), json.loads(arguments))
    except (ValueError, RecursionError):
        return []
    return [call] if call is not None else []


def _elements(body: str) -> list[ParsedCall]:
    function = _FUNCTION.fullmatch(body)
    if function is None:
        return []
    given = {name: _plain(value) for name, value in _PARAMETER.findall(function[2])}
    if _PARAMETER.sub("", function[2]).strip():
        return []
    call = _call(function[1], given)
    return [call] if call is not None else []


def _braces(body: str, form: ToolFormat) -> list[ParsedCall]:
    """Every other piece between quotes is a string; in what is around them only the keys are no JSON."""
    head = _BRACES.match(body)
    if head is None:
        return []
    pieces = body[head.end() - 1 :].strip().split(form.quote)
    written = [
        json.dumps(piece, ensure_ascii=False) if i % 2 else _BARE_KEY.sub(r'\1"\2":', piece)
        for i, piece in enumerate(pieces)
    ]
    try:
        arguments = json.loads("".join(written)) if len(pieces) % 2 else None
    except (ValueError, RecursionError):
        return []
    call = _call(head[1], arguments)
    return [call] if call is not None else []


def _plain(value: str) -> Any:
    """A parameter as JSON where it is some, else the words themselves."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _call(name: object, arguments: object) -> ParsedCall | None:
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if not isinstance(name, str) or not name or not isinstance(arguments, str):
        return None
    return ParsedCall(f"call_{uuid.uuid4().hex[:24]}", name, arguments)
