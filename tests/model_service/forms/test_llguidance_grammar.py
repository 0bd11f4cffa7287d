"""Grammars of forms: what they let through, and that a client's schema can hurt nobody else."""

from dataclasses import replace
from typing import Any

import pytest

from msp_common.errors import InvalidRequest
from msp_model_service.chat.answer_forms import CallForm, CallSchema
from msp_model_service.chat.reasoning import BRACKETS, THINK
from msp_model_service.chat.tool_formats import (
    ELEMENTS,
    GRANITE,
    HERMES,
    LLAMA3,
    MISTRAL,
    MISTRAL_ARGS,
    PHI4,
    ToolFormat,
)
from msp_model_service.engines.chat import PreparedPrompt
from msp_model_service.engines.llguidance_grammar import LlForms
from support.grammars import END, SIZE, allowed, fits, grammar, json_form

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def calls(
    *names: str, several: bool = True, schema: Any = CITY, strict: bool = True, instead: Any = None
) -> CallForm:
    functions = tuple(CallSchema(name, schema, strict, f"tools.{i}") for i, name in enumerate(names))
    return CallForm(functions, several, json_form(instead) if instead is not None else None)


OBJECT = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"$ref": "#/$defs/word"}}},
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"word": {"type": "string", "maxLength": 3}},
}


@pytest.mark.parametrize(
    ("schema", "text", "good"),
    [
        (OBJECT, '{"a": 5}', True),
        (OBJECT, '{"a":5,"b":["x"]}', True),
        (OBJECT, '{\n  "a": 5,\n  "b": [\n    "x",\n    "yz"\n  ]\n}', True),
        (OBJECT, '{"b": []}', False),
        (OBJECT, '{"a": "5"}', False),
        (OBJECT, '{"a": 5, "c": 1}', False),
        (OBJECT, '{"a": 5, "b": ["long"]}', False),
        (OBJECT, 'Sure: {"a": 5}', False),
        (OBJECT, '{"a": 5} indeed', False),
        (OBJECT, '{"a": 5', False),
        ({"type": "object"}, '{"any": [1, {"thing": null}]}', True),
        ({"type": "object"}, "[]", False),
        ({"enum": ["yes", "no", 5]}, '"no"', True),
        ({"enum": ["yes", "no", 5]}, "5", True),
        ({"enum": ["yes", "no", 5]}, '"maybe"', False),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "true", True),
        ({"type": "string", "pattern": "^[a-c]+$"}, '"abc"', True),
        ({"type": "string", "pattern": "^[a-c]+$"}, '"abd"', False),
        ({"type": "integer", "minimum": 3, "maximum": 12}, "12", True),
        ({"type": "integer", "minimum": 3, "maximum": 12}, "13", False),
        ({"type": "string", "format": "date"}, '"2026-11-21"', True),
        (
            {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}},
            "[[], [[]]]",
            True,
        ),
    ],
)
async def test_only_what_the_schema_says_can_be_said(
    forms: LlForms, tokenizer: Any, schema: Any, text: str, good: bool
) -> None:
    assert fits(await grammar(forms, json_form(schema)), tokenizer, text) is good


JSON_CALL = '{"name": "f", "arguments": {"city": "Ulm"}}'


@pytest.mark.parametrize(
    ("family", "one", "two"),
    [
        (HERMES, f"<tool_call>\n{JSON_CALL}\n</tool_call>", f"<tool_call>\n{JSON_CALL}\n</tool_call>\n" * 2),
        (MISTRAL, f"[TOOL_CALLS][{JSON_CALL}]", f"[TOOL_CALLS][{JSON_CALL}, {JSON_CALL}]"),
        (MISTRAL_ARGS, '[TOOL_CALLS]f[ARGS]{"city": "Ulm"}', '[TOOL_CALLS]f[ARGS]{"city": "Ulm"}' * 2),
        (LLAMA3, '{"name": "f", "parameters": {"city": "Ulm"}}', None),
        (
            PHI4,
            f"<|tool_call|>[{JSON_CALL}]<|/tool_call|>",
            f"<|tool_call|>[{JSON_CALL}, {JSON_CALL}]<|/tool_call|>",
        ),
        (GRANITE, f"<|tool_call|>[{JSON_CALL}]", f"<|tool_call|>[{JSON_CALL}, {JSON_CALL}]"),
    ],
)
async def test_a_forced_call_is_written_in_the_familys_way(
    forms: LlForms, tokenizer: Any, family: ToolFormat, one: str, two: str | None
) -> None:
    async def good(form: CallForm, text: str) -> bool:
        return fits(await grammar(forms, form, family), tokenizer, text.strip())

    assert await good(calls("f"), one)
    assert await good(calls("g", "f", several=False), one)
    assert not await good(calls("g"), one)
    assert not await good(calls("f"), one.replace("city", "town"))
    assert not await good(calls("f"), "Sure. " + one)
    if two is not None:
        assert await good(calls("f"), two)
        assert not await good(calls("f", several=False), two)


async def test_calls_or_json_may_be_left_to_the_model(forms: LlForms, tokenizer: Any) -> None:
    form = calls("f", instead=OBJECT)
    for text, good in [
        (f"<tool_call>\n{JSON_CALL}\n</tool_call>", True),
        ('{"a": 1}', True),
        ("words", False),
    ]:
        assert fits(await grammar(forms, form, HERMES), tokenizer, text) is good


@pytest.mark.parametrize(
    ("family", "begin", "end"),
    [
        (HERMES, "<tool_call>\n", "\n</tool_call>"),
        (PHI4, "<|tool_call|>[", "]<|/tool_call|>"),
        (MISTRAL, "[TOOL_CALLS][", "]"),
        (replace(HERMES, start="<call>", end="</call>"), "<call>\n", "\n</call>"),
        (replace(HERMES, bare=True, start="none"), "", ""),
    ],
)
async def test_calls_of_the_models_own_choice_are_held_to_when_they_begin(
    forms: LlForms, tokenizer: Any, family: ToolFormat, begin: str, end: str
) -> None:
    async def good(text: str) -> bool:
        form = CallForm(calls("f").functions, several=True, free=True)
        return fits(await grammar(forms, form, family), tokenizer, text)

    call = f"{begin}{JSON_CALL}{end}"
    assert await good("just words, with a < b")
    assert await good(call)
    assert not await good(call.replace("city", "town"))
    if begin:
        assert await good("Let me see.\n" + call)
        assert not await good("Well. " + call.replace('"f"', '"g"'))
        assert not await good("Well. " + begin + "words")


@pytest.mark.parametrize(
    ("thinks", "text", "good"),
    [
        (False, '<think>\nso a < b, {"a": 1}\n</think>\n\n{"a": 5}', True),
        (False, '{"a": 5}', True),
        (False, 'so </think>{"a": 5}', False),
        (True, 'so\n</think>\n\n{"a": 5}', True),
        (True, "so\n</think>\n\nwell", False),
    ],
)
async def test_thinking_comes_before_the_form_and_is_free(
    forms: LlForms, tokenizer: Any, thinks: bool, text: str, good: bool
) -> None:
    made = await grammar(forms, json_form(OBJECT), reasoning=THINK, thinks=thinks)
    assert fits(made, tokenizer, text) is good
    other = await grammar(forms, json_form(OBJECT), reasoning=BRACKETS, thinks=thinks)
    text = text.replace("<think>", "[THINK]").replace("</think>", "[/THINK]")
    assert fits(other, tokenizer, text) is good


async def test_answers_of_one_form_do_not_disturb_each_other(forms: LlForms, tokenizer: Any) -> None:
    prompt = PreparedPrompt((1,))
    one, other = await forms.grammars(json_form({"enum": ["yes", "no"]}), prompt, 2)
    assert fits(one, tokenizer, '"yes"')
    assert fits(other, tokenizer, '"no"')
    again = await grammar(forms, json_form({"enum": ["yes", "no"]}))
    assert fits(again, tokenizer, '"no"')
    assert one.finished
    one.accept(END)
    assert END in allowed(one)


async def test_an_output_layer_beyond_the_vocabulary_is_ruled_out(forms: LlForms) -> None:
    made = await grammar(forms, json_form({"type": "object"}))
    assert max(allowed(made, SIZE + 64)) < SIZE
    made = await grammar(forms, json_form({"type": "object"}))
    assert allowed(made, 1300) == [i for i in allowed(made) if i < 1300]


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"properties": {"a": {"items": {"not": {"type": "string"}}}}}, "here.properties.a.items.not"),
        ({"type": "array", "uniqueItems": True}, "here.uniqueItems"),
        ({"if": {"type": "string"}, "then": {"minLength": 3}}, "here.if"),
        ({"properties": {"a": {"type": "string", "pattern": "(["}}}, "here.properties.a.pattern"),
        ({"type": "string", "pattern": "^(?!x)a"}, "here.pattern"),
        ({"properties": {"a": {"type": "string", "format": "madeup"}}}, "here.properties.a.format"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "here.minLength"),
        ({"$ref": "#"}, "here"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "here.allOf"),
    ],
)
async def test_what_answers_cannot_be_held_to_is_refused_by_its_place(
    forms: LlForms, schema: Any, where: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await grammar(forms, json_form(schema))
    assert caught.value.param == where
    assert len(caught.value.message) < 500


async def test_a_function_that_is_not_strict_is_followed_as_far_as_it_goes(forms: LlForms) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    assert await grammar(forms, calls("f", schema=schema, strict=False), HERMES)
    with pytest.raises(InvalidRequest) as caught:
        await grammar(forms, calls("f", schema=schema, strict=True), HERMES)
    assert caught.value.param == "tools.0.properties.a.uniqueItems"


async def test_what_a_family_cannot_say_is_refused(forms: LlForms) -> None:
    for form, family in [(calls("f"), None), (calls("f", instead=OBJECT), LLAMA3)]:
        with pytest.raises(InvalidRequest) as caught:
            await grammar(forms, form, family)
        assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("<parameter=city>\nUlm\n</parameter>\n", True),
        ("<parameter=city>\nUlm, or\nNeu-Ulm\n</parameter>\n<parameter=days>\n3\n</parameter>\n", True),
        ("<parameter=city>\nUlm\n</parameter>\n<parameter=unit>\nK\n</parameter>\n", True),
        ("<parameter=city>\nUlm\n</parameter>\n<parameter=unit>\nR\n</parameter>\n", False),
        ("<parameter=city>\nUlm\n</parameter>\n<parameter=days>\nmany\n</parameter>\n", False),
        ("<parameter=town>\nUlm\n</parameter>\n", False),
        ("", False),
    ],
)
async def test_arguments_in_elements_are_held_to_their_schemas(
    forms: LlForms, tokenizer: Any, text: str, good: bool
) -> None:
    properties = {
        "city": {"type": "string"},
        "days": {"$ref": "#/$defs/count"},
        "unit": {"type": "string", "enum": ["C", "K"]},
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["city"],
        "$defs": {"count": {"type": "integer"}},
    }
    call = f"<tool_call>\n<function=f>\n{text}</function>\n</tool_call>"
    made = await grammar(forms, calls("f", schema=schema), ELEMENTS)
    assert fits(made, tokenizer, call) is good
