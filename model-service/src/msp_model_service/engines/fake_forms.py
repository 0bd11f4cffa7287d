"""Answers of a form, for the engine without a model: the plainest instance of a schema."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msp_model_service.chat.answer_forms import AnswerForm, JsonForm
from msp_model_service.chat.tool_formats import HERMES
from msp_model_service.engines.chat import PreparedPrompt

if TYPE_CHECKING:
    import torch

_PLAINEST: Mapping[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "null": None}
_DEEPEST = 16


@dataclass
class FakeGrammar:
    """A Grammar of one text."""

    text: str
    finished: bool = False

    def mask(self, logits: "torch.Tensor") -> None:
        """See Grammar; nothing is computed here."""

    def accept(self, token_id: int) -> None:
        """See Grammar."""


class FakeForms:
    """See Forms."""

    async def grammars(self, form: AnswerForm, prompt: PreparedPrompt, count: int) -> list[FakeGrammar]:
        """See Forms."""
        if isinstance(form, JsonForm):
            text = json.dumps(instance(form.schema, form.schema))
        elif form.instead is not None:
            text = json.dumps(instance(form.instead.schema, form.instead.schema))
        else:
            first = form.functions[0]
            call = {"name": first.name, "arguments": instance(first.arguments, first.arguments)}
            text = f"{HERMES.start}\n{json.dumps(call)}\n{HERMES.end}"
        return [FakeGrammar(text) for _ in range(count)]


def instance(schema: Any, root: Any, depth: int = 0) -> Any:
    """A value of the schema, where it is a plain one: what is required, as short as can be."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {}
    if "const" in schema or schema.get("enum"):
        return schema.get("const", (schema.get("enum") or [None])[0])
    if "$ref" in schema:
        target = root
        for step in str(schema["$ref"]).split("/")[1:]:
            target = target[int(step)] if isinstance(target, list) else target[step]
        return instance(target, root, depth + 1)
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return instance(schema[name][0], root, depth + 1)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "array":
        return [instance(schema.get("items"), root, depth + 1)] * min(int(schema.get("minItems", 0)), 8)
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: instance(properties.get(name), root, depth + 1) for name in schema.get("required", ())}
    return _PLAINEST.get(str(kind), {})
