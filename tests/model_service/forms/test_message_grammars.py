"""Grammars of families whose markers are several control tokens: gpt-oss's messages, Gemma 4's braces."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from msp_common.errors import InvalidRequest
from msp_model_service.chat.answer_forms import CallForm, CallSchema
from msp_model_service.chat.call_bodies import read_calls
from msp_model_service.chat.reasoning import GEMMA4, HARMONY
from msp_model_service.chat.tool_formats import GEMMA4 as GEMMA4_CALLS
from msp_model_service.chat.tool_formats import HARMONY as HARMONY_CALLS
from msp_model_service.engines.llguidance_grammar import LlForms
from support.grammars import END, fits, grammar, json_form

TOKENS = sorted({*HARMONY.tokens, "<|call|>", *GEMMA4.markers[1:], *GEMMA4_CALLS.markers})
SIZE = 1461 + len(TOKENS)
PAINT: Any = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": ["red", "light blue"]},
        "coats": {"type": "integer", "minimum": 1, "maximum": 9},
        "notes": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "where": {"$ref": "#/$defs/place"},
    },
    "required": ["colour"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "inside": {"type": ["boolean", "null"]}},
            "required": ["x", "inside"],
            "additionalProperties": False,
        }
    },
}
OWN_REFERENCE = {
    "type": "object",
    "properties": {name: {"$ref": "#"} for name in "abcdef"},
    "required": [],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["control tokens", "plain words"])
def speaking(request: pytest.FixtureRequest, tokenizer: Any) -> Iterator[tuple[LlForms, Any]]:
    """Forms and their tokenizer, with the markers as control tokens and without."""
    own = copy.deepcopy(tokenizer)
    if request.param == "control tokens":
        own.add_special_tokens({"additional_special_tokens": TOKENS}, replace_extra_special_tokens=False)
    forms = LlForms(own, vocabulary_size=SIZE, end_ids=frozenset({END, 1457}))
    yield forms, own
    forms.close()


def calls(schema: Any = PAINT, *, strict: bool = True, free: bool = False, instead: Any = None) -> CallForm:
    functions = (CallSchema("paint", schema, strict, "tools.0"),)
    return CallForm(functions, True, json_form(instead) if instead is not None else None, free=free)


NEXT = "<|start|>assistant"
HM = f"<|channel|>analysis<|message|>so <b> 1 < 2\n<|end|>{NEXT}"
CALL = f'{HARMONY_CALLS.start}paint{HARMONY_CALLS.inner}{{"colour": "red", "coats": 2}}'


@pytest.mark.parametrize(
    ("form", "text", "good"),
    [
        (json_form(PAINT), f'{HM}<|channel|>final<|message|>{{"colour": "red"}}', True),
        (json_form(PAINT), '<|channel|>final<|message|>{"colour": "red"}', True),
        (json_form(PAINT), f"{HM}<|channel|>commentary<|message|>look<|end|>{NEXT}{CALL}", False),
        (json_form(PAINT), '{"colour": "red"}', False),
        (json_form(PAINT), f'{HM * 5}<|channel|>final<|message|>{{"colour": "red"}}', False),
        (calls(), HM + CALL, True),
        (calls(), CALL, True),
        (calls(), CALL.replace("2}", "99}"), False),
        (calls(), "<|channel|>final<|message|>no", False),
        (calls(free=True), HM + CALL, True),
        (calls(free=True), f"{HM}<|channel|>final<|message|>no", True),
        (calls(free=True), CALL.replace("red", "green"), False),
        (calls(instead=PAINT), '<|channel|>final<|message|>{"colour": "red"}', True),
        (calls(instead=PAINT), HM + CALL, True),
    ],
)
async def test_gpt_oss_may_think_in_messages_of_their_own(
    speaking: tuple[LlForms, Any], form: Any, text: str, good: bool
) -> None:
    forms, tokenizer = speaking
    made = await grammar(forms, form, HARMONY_CALLS, HARMONY)
    assert fits(made, tokenizer, text, SIZE) == good


def braces(arguments: str) -> str:
    return f"<|tool_call>call:paint{arguments}<tool_call|>"


Q = '<|"|>'
RED = f"colour:{Q}red{Q}"
PLACE = "where:{x:-1.5,inside:null}"


@pytest.mark.parametrize(
    ("schema", "arguments", "good"),
    [
        (PAINT, f"{{{RED}}}", True),
        (PAINT, f"{{{RED},coats:9,notes:[{Q}a {{b}},{Q},{Q}{Q}],{PLACE}}}", True),
        (PAINT, f"{{{RED},notes:[],{PLACE}}}", True),
        (PAINT, f"{{{RED},{PLACE}}}", True),
        (PAINT, f"{{{RED},coats:10}}", False),
        (PAINT, f"{{{RED},notes:[{Q}a{Q},{Q}b{Q},{Q}c{Q}]}}", False),
        (PAINT, f"{{{RED},}}", False),
        (PAINT, "{coats:1}", False),
        (PAINT, f"{{colour:{Q}green{Q}}}", False),
        ({"type": "object", "properties": {}}, "{}", True),
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"const": 1}}}, "{b:1}", True),
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"const": 1}}}, "{}", True),
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"const": 1}}}, "{,b:1}", False),
    ],
)
async def test_gemma_4_writes_arguments_in_its_own_way(
    speaking: tuple[LlForms, Any], schema: Any, arguments: str, good: bool
) -> None:
    forms, tokenizer = speaking
    made = await grammar(forms, calls(schema), GEMMA4_CALLS)
    assert fits(made, tokenizer, braces(arguments), SIZE) == good
    if good:
        assert read_calls(f"call:paint{arguments}", GEMMA4_CALLS)


async def test_gemma_4_thinks_before_and_calls_within_words(speaking: tuple[LlForms, Any]) -> None:
    forms, tokenizer = speaking
    thinking = "<|channel>thought\nhm\n<channel|>"
    for form, text, good in (
        (calls(), thinking + braces(f"{{{RED}}}") * 2, True),
        (calls(), thinking + "no", False),
        (calls(free=True), f"{thinking}Well. {braces(f'{{{RED}}}')}", True),
        (calls(free=True), f"{thinking}Well. {braces('{coats:1}')}", False),
        (json_form(PAINT), thinking + '{"colour": "red"}', True),
    ):
        made = await grammar(forms, form, GEMMA4_CALLS, GEMMA4)
        assert fits(made, tokenizer, text, SIZE) == good, text


@pytest.mark.parametrize(
    ("property", "why"),
    [
        ({"type": "string", "pattern": "a+"}, "'pattern'"),
        ({"type": "string", "format": "date"}, "'format'"),
        ({}, "a value of no type"),
        ({"type": "object", "additionalProperties": True}, "properties of any name"),
        ({"allOf": [{"type": "string"}]}, "'allOf'"),
        ({"enum": [[1]]}, "an 'enum' of objects or lists"),
        ({"$ref": "#/$defs/absent"}, "the reference"),
    ],
)
async def test_what_gemma_4s_calls_cannot_be_held_to_is_refused_only_where_it_must_be(
    speaking: tuple[LlForms, Any], property: Any, why: str
) -> None:
    forms, tokenizer = speaking
    schema = {"type": "object", "properties": {"a": property}, "required": ["a"]}
    with pytest.raises(InvalidRequest) as refused:
        await grammar(forms, calls(schema), GEMMA4_CALLS)
    assert why in refused.value.message
    if why in ("an 'enum' of objects or lists", "the reference"):
        return
    made = await grammar(forms, calls(schema, strict=False), GEMMA4_CALLS)
    value = "{b:1,c:[true,{}]}" if why != "'pattern'" and why != "'format'" else f"{Q}x{Q}"
    assert fits(made, tokenizer, braces(f"{{a:{value}}}"), SIZE)


@pytest.mark.parametrize(("strict", "why"), [(True, "more than 8 levels"), (False, "so many values")])
async def test_a_schema_that_grows_with_every_level_is_refused(
    speaking: tuple[LlForms, Any], strict: bool, why: str
) -> None:
    forms, _ = speaking
    with pytest.raises(InvalidRequest, match=why):
        await grammar(forms, calls(OWN_REFERENCE, strict=strict), GEMMA4_CALLS)
