"""Arguments as Gemma writes them, as a grammar: bare keys, and a control token around strings."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_PLAIN = ("number", "integer", "boolean", "null")
_NOT_OF_STRINGS = ("pattern", "format", "minLength", "maxLength")
_NOT_OF_OTHERS = ("allOf", "not", "if", "patternProperties", "propertyNames", "uniqueItems", "contains")
_DEEPEST = 8
_MOST_VALUES = 1000
"""In one schema, references followed: one that refers to itself often grows with every level."""

_KEY = re.compile(r"[^\s{}\[\],:\"]+")


class NotWritable(ValueError):
    """The schema asks for something that cannot be held to in this form; the message names it."""


class BracesGrammar:
    """Adds the rules of one function's arguments to `rules`, their names beginning with `name`.

    What it does not understand of a schema is any value, or refused where the schema is `strict`.
    """

    def __init__(
        self,
        rules: list[str],
        name: str,
        schema: Schema,
        *,
        strict: bool,
        quote: str,
        quoted_text: Callable[[list[str]], str],
    ) -> None:
        """`quote`: as the grammar names it. `quoted_text` adds the rule of a string, closing quote too."""
        self._rules = rules
        self._name = name
        self._schema = schema
        self._strict = strict
        self._quote = quote
        self._quoted_text = quoted_text
        self._made = 0
        self._values = 0

    def arguments(self) -> str:
        """The whole object."""
        return self._object(self._schema, 0)

    def _value(self, schema: Any, depth: int) -> str:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise NotWritable("so many values")
        if schema is True or schema == {}:
            return self._any("a value of no type")
        if not isinstance(schema, Mapping):
            raise NotWritable("a value that nothing is valid for")
        if depth > _DEEPEST:
            return self._any(f"more than {_DEEPEST} levels")
        if isinstance(reference := schema.get("$ref"), str):
            return self._value(self._resolved(reference), depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._one_of([self._value(one, depth + 1) for one in schema[word]])
        if "const" in schema or "enum" in schema:
            return self._one_of([self._literal(one) for one in schema.get("enum", [schema.get("const")])])
        if unknown := next((word for word in _NOT_OF_OTHERS if word in schema), None):
            return self._any(repr(unknown))
        types = schema.get("type")
        if isinstance(types, Sequence) and not isinstance(types, str):
            return self._one_of([self._value({**schema, "type": one}, depth) for one in types])
        match types:
            case "string":
                return self._string(schema)
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case _ if types in _PLAIN:
                return "%json " + json.dumps({**schema, "x-guidance": {"lenient": not self._strict}})
            case _:
                return self._any("a value of no type")

    def _string(self, schema: Schema) -> str:
        if self._strict and (word := next((word for word in _NOT_OF_STRINGS if word in schema), None)):
            raise NotWritable(repr(word))
        return f"({self._quote} {self._quoted_text(self._rules)})"

    def _object(self, schema: Schema, depth: int) -> str:
        """Properties in the schema's order; two rules for each: with something before it, and without."""
        given = schema.get("properties")
        properties: Schema = given if isinstance(given, Mapping) else {}
        required = schema.get("required", ())
        if not properties and schema.get("additionalProperties") not in (None, False):
            return self._any("properties of any name")
        first = later = '"}"'
        for key, one in reversed(list(properties.items())):
            if not _KEY.fullmatch(key):
                raise NotWritable(f"the name {key!r}")
            pair = f"{_quoted(f'{key}:')} {self._value(one, depth + 1)}"
            follows = self._rule(later)
            if key in required:
                first, later = f"{pair} {follows}", f'"," {pair} {follows}'
            else:
                first, later = f"({pair} {follows} | {self._rule(first)})", f'(("," {pair})? {follows})'
        return f'("{{" {first})'

    def _array(self, schema: Schema, depth: int) -> str:
        if self._strict and "prefixItems" in schema:
            raise NotWritable("'prefixItems'")
        item = self._rule(self._value(schema.get("items", {}), depth + 1))
        fewest, most = schema.get("minItems", 0), schema.get("maxItems")
        rest = f'("," {item}){{{max(0, fewest - 1)},{"" if most is None else max(0, most - 1)}}}'
        filled = f"{item} {rest}"
        if most == 0:
            return '("[" "]")'
        return f'("[" {filled} "]")' if fewest else f'("[" ({filled})? "]")'

    def _any(self, why: str) -> str:
        if self._strict:
            raise NotWritable(why)
        if not any(rule.startswith("braces_any:") for rule in self._rules):
            text = self._quoted_text(self._rules)
            plain = "%json " + json.dumps({"type": ["number", "boolean", "null"]})
            self._rules.append(
                f'braces_any: {self._quote} {text} | {plain} | "[" (braces_any ("," braces_any)*)? "]" '
                '| "{" (BRACES_KEY ":" braces_any ("," BRACES_KEY ":" braces_any)*)? "}"'
            )
            self._rules.append(r"BRACES_KEY: /[A-Za-z_][A-Za-z0-9_-]*/")
        return "braces_any"

    def _literal(self, value: Any) -> str:
        if isinstance(value, str):
            return (
                f"({self._quote} {_quoted(value)} {self._quote})"
                if value
                else f"({self._quote} {self._quote})"
            )
        if isinstance(value, Mapping | list):
            raise NotWritable("an 'enum' of objects or lists")
        return _quoted(json.dumps(value))

    def _resolved(self, reference: str) -> Any:
        place: Any = self._schema
        for step in filter(None, reference.removeprefix("#").split("/")):
            place = place.get(step) if isinstance(place, Mapping) else None
        if place is None:
            raise NotWritable(f"the reference {reference!r}")
        return place

    def _one_of(self, values: Sequence[str]) -> str:
        return f"({' | '.join(values)})"

    def _rule(self, body: str) -> str:
        self._made += 1
        name = f"{self._name}_v{self._made}"
        self._rules.append(f"{name}: {body}")
        return name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
