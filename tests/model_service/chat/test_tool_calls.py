"""Tool calls found in a model's text, however it arrives."""

import json

import pytest

from msp_model_service.chat.tool_calls import ParsedCall, ToolCallParser
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

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
Told = list[str | tuple[str, str]]


def parsed(text: str, size: int, form: ToolFormat = HERMES) -> Told:
    """What a parser tells of `text` fed in pieces of `size`; neighbouring contents joined."""
    parser = ToolCallParser(form)
    parts: list[str | ParsedCall] = []
    for i in range(0, len(text), size):
        parts += parser.feed(text[i : i + size])
    told: Told = []
    for part in [*parts, *parser.finish()]:
        if isinstance(part, ParsedCall):
            told.append((part.name, part.arguments))
        elif told and isinstance(told[-1], str):
            told[-1] += part
        else:
            told.append(part)
    return told


@pytest.fixture(params=[1, 3, 1000])
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("just text", ["just text"]),
        ("trailing space ", ["trailing space "]),
        (CALL, [("f", '{"x": 1}')]),
        (f"Let me see.\n{CALL}", ["Let me see.", ("f", '{"x": 1}')]),
        (f"{CALL}\n{CALL}", [("f", '{"x": 1}'), ("f", '{"x": 1}')]),
        (f"{CALL}\n", [("f", '{"x": 1}')]),
        (f"{CALL}\nDone.", [("f", '{"x": 1}'), "Done."]),
        (CALL.removesuffix("</tool_call>"), [("f", '{"x": 1}')]),
        ("a < b and <tool", ["a < b and <tool"]),
        ('<tool_call>{"name": "g"}</tool_call>', [("g", "{}")]),
        ('<tool_call>{"name": "g", "arguments": "{}"}</tool_call>', [("g", "{}")]),
    ],
)
def test_content_and_calls_are_told_apart(text: str, told: Told, size: int) -> None:
    assert parsed(text, size) == told


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        '{"name": "f", "arguments": {"x": ',
        "[]",
        "{}",
        '{"name": 5}',
        '{"name": "", "arguments": {}}',
        '{"name": "f", "arguments": 3}',
        "[" * 100_000,
    ],
)
def test_a_malformed_call_is_content_as_the_model_wrote_it(body: str) -> None:
    text = f"Well: \n<tool_call>{body}</tool_call> end"
    assert parsed(text, 1000) == [text]


def test_ids_differ_and_arguments_keep_their_script() -> None:
    parser = ToolCallParser(HERMES)
    body = json.dumps({"name": "f", "arguments": {"city": "東京"}}, ensure_ascii=True)
    one, two = parser.feed(f"<tool_call>{body}</tool_call>" * 2)
    assert isinstance(one, ParsedCall)
    assert isinstance(two, ParsedCall)
    assert one.id != two.id
    assert one.arguments == '{"city": "東京"}'


FORMS = [
    (
        ELEMENTS,
        "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n"
        "<parameter=y>\na b\n</parameter>\n</function>\n</tool_call>",
        [("f", '{"x": 1, "y": "a b"}')],
    ),
    (ELEMENTS, "<tool_call>\n<function=f>\n</function>\n</tool_call>", [("f", "{}")]),
    (LLAMA3, '{"name": "f", "parameters": {"x": 1}}', [("f", '{"x": 1}')]),
    (LLAMA3, '<|python_tag|>{"name": "f", "parameters": {"x": 1}}', [("f", '{"x": 1}')]),
    (LLAMA3, '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', [("f", "{}"), ("g", "{}")]),
    (LLAMA3, '{"name": "Ann", "age": 5}', ['{"name": "Ann", "age": 5}']),
    (LLAMA3, '{"name": "f", "parameters": ', ['{"name": "f", "parameters": ']),
    (LLAMA3, "Hello {you}", ["Hello {you}"]),
    (
        MISTRAL,
        '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]',
        [("f", '{"x": 1}'), ("g", "{}")],
    ),
    (MISTRAL, 'Well.[TOOL_CALLS] [{"name": "f"}]', ["Well.", ("f", "{}")]),
    (MISTRAL, '[TOOL_CALLS][{"name": "f"', ['[TOOL_CALLS][{"name": "f"']),
    (MISTRAL_ARGS, '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[ARGS]{}', [("f", '{"x": 1}'), ("g", "{}")]),
    (MISTRAL_ARGS, '[TOOL_CALLS]f[CALL_ID]abc[ARGS]{"x": 1}', [("f", '{"x": 1}')]),
    (MISTRAL_ARGS, '[TOOL_CALLS]f{"x": 1}', [("f", '{"x": 1}')]),
    (MISTRAL_ARGS, "[TOOL_CALLS]f[ARGS]{", ["[TOOL_CALLS]f[ARGS]{"]),
    (PHI4, '<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>', [("f", "{}")]),
    (GRANITE, '<|tool_call|>[{"name": "f", "arguments": {}}]', [("f", "{}")]),
    (HERMES, "<tool_call>[]</tool_call>", ["<tool_call>[]</tool_call>"]),
]


@pytest.mark.parametrize(("form", "text", "told"), FORMS)
def test_every_family_is_read_in_its_own_way(form: ToolFormat, text: str, told: Told, size: int) -> None:
    assert parsed(text, size, form) == told
