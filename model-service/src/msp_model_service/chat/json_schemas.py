"""JSON schemas of clients: bounded before anything reads them, and wrong ones refused by the place.

Only what an engine could misread or be hurt by is checked here; what it cannot hold to it says itself, and
`place_of` then finds the keyword.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msp_common.errors import InvalidRequest


@dataclass(frozen=True)
class SchemaLimits:
    """How large a schema may be. The time to compile one grows with the square of its properties."""

    bytes: int = 128 * 1024
    depth: int = 32
    """Of nested values. The compiler's own reader gives up near 128."""
    nodes: int = 10_000
    """Values of any kind: schemas, names, members of an enum."""
    properties: int = 1000
    """In one object."""


DEFAULT_LIMITS = SchemaLimits()
_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_ONES = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def check_schema(schema: Any, param: str, limits: SchemaLimits = DEFAULT_LIMITS) -> None:
    """Raises InvalidRequest that names the place, for a schema that is too large or is none."""
    _check_size(schema, param, limits)
    for place, one in _subschemas(schema, ()):
        _check_one(one, place, param, schema, limits)


def place_of(keyword: str, schema: Any) -> str | None:
    """Where a schema first uses a keyword, as `properties.a.not`; None where it does not."""
    for place, one in _subschemas(schema, ()):
        if isinstance(one, Mapping) and keyword in one:
            return ".".join((*place, keyword))
    return None


def _check_size(schema: Any, param: str, limits: SchemaLimits) -> None:
    nodes, level = 0, [schema]
    for _ in range(limits.depth):
        nodes += len(level)
        if nodes > limits.nodes:
            raise _too_large(param, f"it has more than {limits.nodes} values")
        level = [child for value in level for child in _children(value)]
        if not level:
            break
    else:
        raise _too_large(param, f"it is nested more than {limits.depth} deep")
    if len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace")) > limits.bytes:
        raise _too_large(param, f"it is longer than {limits.bytes} bytes")


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _subschemas(schema: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The schema and all within it, each with its place. `_check_size` has bounded the depth."""
    yield place, schema
    if not isinstance(schema, Mapping):
        return
    for name in _MAPS:
        if isinstance(schema.get(name), Mapping):
            for key, one in schema[name].items():
                yield from _subschemas(one, (*place, name, key))
    for name in _LISTS:
        if isinstance(schema.get(name), list):
            for i, one in enumerate(schema[name]):
                yield from _subschemas(one, (*place, name, str(i)))
    for name in _ONES:
        if name in schema and not isinstance(schema[name], list):
            yield from _subschemas(schema[name], (*place, name))


def _check_one(
    schema: Any, place: tuple[str, ...], param: str, root: Mapping[str, Any], limits: SchemaLimits
) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise _wrong(param, place, "a schema is an object, true or false")
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            raise _wrong(param, (*place, "type"), f"{kind!r} is no type of JSON")
    for name in _MAPS:
        if name in schema and not isinstance(schema[name], Mapping):
            raise _wrong(param, (*place, name), "it is an object of schemas")
    for name in (*_LISTS, "enum", "required"):
        if name in schema and not isinstance(schema[name], list):
            raise _wrong(param, (*place, name), "it is a list")
    if len(schema.get("properties", ())) > limits.properties:
        raise _too_large(param, f"{'.'.join((*place, 'properties'))} has more than {limits.properties}")
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        raise _wrong(param, (*place, "required"), "it is a list of names")
    if "$ref" in schema:
        _check_reference(schema["$ref"], (*place, "$ref"), param, root)


def _check_reference(target: Any, place: tuple[str, ...], param: str, root: Mapping[str, Any]) -> None:
    """Only places in the schema itself: nothing is ever fetched."""
    if not isinstance(target, str) or not (target == "#" or target.startswith("#/")):
        raise _wrong(param, place, f"{target!r} is outside the schema; only '#/...' can be referred to")
    found: Any = root
    for step in target.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise _wrong(param, place, f"{target!r} is not in the schema")


def _wrong(param: str, place: tuple[str, ...], reason: str) -> InvalidRequest:
    where = ".".join((param, *place))
    return InvalidRequest(f"Invalid JSON schema at '{where}': {reason}.", param=where, code="invalid_schema")


def _too_large(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"The JSON schema in '{param}' is too large: {reason}.", param=param, code="schema_too_large"
    )
