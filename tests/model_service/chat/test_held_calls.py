"""Calls told while they are being written."""

import json
from typing import Any

import httpx
import openai
import pytest

from msp_model_service.chat.held_calls import CallArguments, CallBegun, HeldCallParser, HeldPart
from msp_model_service.chat.tool_formats import HERMES, LLAMA3, MISTRAL_ARGS, ToolFormat
from support.chat_fakes import WEATHER, user

Told = list[str | tuple[str, str]]


def parsed(text: str, size: int, form: ToolFormat) -> tuple[Told, int]:
    """What is told of `text` in pieces of `size`, put together, and in how many pieces arguments came."""
    parser = HeldCallParser(form)
    parts: list[HeldPart] = []
    for i in range(0, len(text), size):
        parts += parser.feed(text[i : i + size])
    told: Told = []
    pieces = 0
    for part in [*parts, *parser.finish()]:
        last = told[-1] if told else None
        if isinstance(part, CallBegun):
            told.append((part.name, ""))
        elif isinstance(part, CallArguments):
            pieces += 1
            assert isinstance(last, tuple)
            told[-1] = (last[0], last[1] + part.text)
        elif isinstance(last, str):
            told[-1] = last + part
        else:
            told.append(part)
    return told, pieces


ARGUMENTS = '{"a": {"b": "}"}, "c": "x }, </tool y"}'
CALL = f'<tool_call>\n{{"name": "f\\"", "arguments": {ARGUMENTS}}}\n</tool_call>'
BARE = f'{{"name": "f", "parameters": {ARGUMENTS}}}'


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("form", "text", "told"),
    [
        (HERMES, CALL, [('f"', ARGUMENTS)]),
        (HERMES, f"{CALL}\n{CALL}", [('f"', ARGUMENTS)] * 2),
        (HERMES, f"Well, a <t.\n{CALL}\nSo.", ["Well, a <t.", ('f"', ARGUMENTS), "So."]),
        (HERMES, "only words", ["only words"]),
        (HERMES, CALL[:-20], [('f"', ARGUMENTS[:-6])]),
        (LLAMA3, BARE, [("f", ARGUMENTS)]),
        (LLAMA3, BARE[:-6], [("f", ARGUMENTS[:-5])]),
        (LLAMA3, "Hello {you}", ["Hello {you}"]),
        (LLAMA3, '{"name": "f", "parameters": {}}', [("f", "{}")]),
        (MISTRAL_ARGS, f"[TOOL_CALLS]f[ARGS]{ARGUMENTS}", [("f", ARGUMENTS)]),
        (
            MISTRAL_ARGS,
            f"[TOOL_CALLS]f[ARGS]{{}}[TOOL_CALLS]g[ARGS]{ARGUMENTS}",
            [("f", "{}"), ("g", ARGUMENTS)],
        ),
    ],
)
def test_calls_are_told_in_pieces_that_make_up_the_whole(
    form: ToolFormat, text: str, told: Told, size: int
) -> None:
    made, pieces = parsed(text, size, form)
    assert made == told
    if size == 1 and ARGUMENTS in str(told):
        assert pieces > 5


def test_forced_calls_are_streamed_in_pieces(client: openai.OpenAI) -> None:
    body: Any = {"messages": [user("hello")], "tools": [WEATHER], "tool_choice": "required", "stream": True}
    frames = httpx.post(f"{client.base_url}chat/completions", json=body).text.split("\n\n")[:-2]
    deltas = [json.loads(frame.removeprefix("data: "))["choices"][0]["delta"] for frame in frames]
    assert deltas[0] == {"role": "assistant", "content": None, "refusal": None}
    (first, *others) = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert first["function"] == {"name": "get_weather", "arguments": ""}
    assert len(others) > 5
    assert all(set(call) == {"index", "function"} for call in others)
    assert json.loads("".join(call["function"]["arguments"] for call in others)) == {"text": ""}
