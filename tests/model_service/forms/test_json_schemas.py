"""Schemas of clients: bounded first, and refused by the place that is wrong."""

import time
from typing import Any

import pytest

from msp_common.errors import InvalidRequest
from msp_model_service.chat.json_schemas import SchemaLimits, check_schema, place_of


def refusal(schema: Any, limits: SchemaLimits | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check_schema(schema, "s", limits or SchemaLimits())
    return caught.value


def nested(depth: int, key: str = "items") -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {key: schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["string", "null"]},
        {"type": "object", "properties": {"a": True, "b": {"$ref": "#/$defs/x~1y"}}, "$defs": {"x/y": {}}},
        {"anyOf": [{"type": "string"}, {"$ref": "#"}], "title": "any", "madeUp": [1]},
        {"enum": [1, "a", None]},
        {"properties": {"type": {"type": "string"}, "$ref": {}}},
    ],
)
def test_sound_schemas_pass(schema: Any) -> None:
    check_schema(schema, "s")


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        (5, "s"),
        ({"type": "strin"}, "s.type"),
        ({"type": ["string", 5]}, "s.type"),
        ({"type": {"a": 1}}, "s.type"),
        ({"properties": []}, "s.properties"),
        ({"properties": {"a": {"properties": {"b": {"type": "x"}}}}}, "s.properties.a.properties.b.type"),
        ({"properties": {"a": 5}}, "s.properties.a"),
        ({"anyOf": {}}, "s.anyOf"),
        ({"anyOf": [{}, {"items": {"type": "x"}}]}, "s.anyOf.1.items.type"),
        ({"enum": "a"}, "s.enum"),
        ({"required": "a"}, "s.required"),
        ({"required": [5]}, "s.required"),
        ({"$ref": "#/$defs/none"}, "s.$ref"),
        ({"$ref": 5}, "s.$ref"),
        ({"$ref": "http://127.0.0.1/schema.json"}, "s.$ref"),
        ({"$ref": "file:///etc/passwd"}, "s.$ref"),
        ({"$ref": "/etc/passwd"}, "s.$ref"),
        ({"prefixItems": [{}], "items": {"$ref": "#/prefixItems/1"}}, "s.items.$ref"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(schema: Any, where: str) -> None:
    assert refusal(schema).param == where


@pytest.mark.parametrize(
    "schema",
    [
        nested(40),
        nested(10_000),
        {"enum": list(range(20_000))},
        {"properties": {f"p{i}": {} for i in range(1001)}},
        {"description": "x" * 200_000},
        {"enum": [[[[[[[[[[nested(30)]]]]]]]]]]},
    ],
)
def test_large_schemas_are_refused_in_no_time(schema: Any) -> None:
    began = time.perf_counter()
    assert refusal(schema).code == "schema_too_large"
    assert time.perf_counter() - began < 2  # walking all of it by recursion would end the process


def test_a_keyword_is_found_where_it_is_first_used() -> None:
    schema = {"properties": {"not": {"type": "string"}, "a": {"items": {"not": {}}}}}
    assert place_of("not", schema) == "properties.a.items.not"
    assert place_of("contains", schema) is None
