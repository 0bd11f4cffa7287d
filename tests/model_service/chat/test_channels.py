"""gpt-oss's messages to several channels, and Gemma 4's thinking and calls, however the text arrives."""

import json
from collections.abc import Iterator

import pytest

from msp_model_service.chat.channels import ChannelParser
from msp_model_service.chat.choices import ChoiceReader
from msp_model_service.chat.reasoning import GEMMA4, HARMONY, ReasoningFormat, Thought
from msp_model_service.chat.rendering import WholeChoice
from msp_model_service.chat.tool_formats import GEMMA4 as GEMMA4_CALLS
from msp_model_service.chat.tool_formats import HARMONY as HARMONY_CALLS
from msp_model_service.chat.tool_formats import ToolFormat
from msp_model_service.engines.chat import PreparedPrompt, TokenEvent

FINAL = "<|start|>assistant<|channel|>final<|message|>"
NEXT = "<|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>"

Read = tuple[str | None, str, list[tuple[str, object]], str | None]
"""Thinking, content, calls with their arguments, and the reason of the end."""


def cuts(text: str) -> Iterator[list[str]]:
    """In pieces of one size each, and in two at every place."""
    for size in (1, 2, 3, 7, len(text) or 1):
        yield [text[i : i + size] for i in range(0, len(text), size)]
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]


def read(
    pieces: list[str], reasoning: ReasoningFormat, calls: ToolFormat | None, *, held: bool = False
) -> Read:
    prompt = PreparedPrompt((1,), tool_format=calls, reasoning=reasoning)
    reader, choice = ChoiceReader(prompt, calls_held=held), WholeChoice(with_logprobs=False)
    for piece in pieces:
        choice.add(reader.read(TokenEvent(piece, (0,))))
    choice.add(reader.read(TokenEvent("", (0,), finish="stop")))
    made = [(call.name, json.loads(call.arguments)) for call in choice.calls]
    return choice.thinking, choice.text, made, choice.finish


CITY = '{"city": "São Paulo"}'
CALLED: list[tuple[str, object]] = [("get_weather", {"city": "São Paulo"})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ANALYSIS}a < b|>?<|end|>{FINAL}Yes, 1 < 2.", ("a < b|>?", "Yes, 1 < 2.", [], "stop")),
        ("<|channel|>final<|message|>Yes.<|return|>", (None, "Yes.", [], "stop")),
        (f"{ANALYSIS}cut in the mid", ("cut in the mid", "", [], "stop")),
        (
            f"{ANALYSIS}one<|end|><|start|>assistant{ANALYSIS}two<|end|>{FINAL}x",
            ("one\n\ntwo", "x", [], "stop"),
        ),
        (f"{ANALYSIS}no end{FINAL}x", ("no end", "x", [], "stop")),
        (
            f"{ANALYSIS}hm<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
            f"<|constrain|>json<|message|>{CITY}<|call|>",
            ("hm", "", CALLED, "tool_calls"),
        ),
        (
            f"{ANALYSIS}hm<|end|>{NEXT} to=functions.get_weather<|channel|>commentary json<|message|>{CITY}",
            ("hm", "", CALLED, "tool_calls"),
        ),
        (
            f" to=functions.get_weather<|channel|>commentary<|constrain|>json<|message|>{CITY}<|call|>",
            (None, "", CALLED, "tool_calls"),
        ),
        (
            f"<|channel|>commentary<|message|>I shall look.<|end|><|start|>assistant<|channel|>commentary "
            f"to=functions.get_weather <|constrain|>json<|message|>{CITY}<|call|>",
            (None, "I shall look.", CALLED, "tool_calls"),
        ),
        (
            f"<|channel|>commentary to=browser.search code<|message|>{{}}<|end|>{FINAL}x",
            ("{}", "x", [], "stop"),
        ),
        ("No channels at all: <|b", (None, "No channels at all: <|b", [], "stop")),
        ("to be or not", (None, "to be or not", [], "stop")),
        (f"to={'x' * 300}", (None, f"to={'x' * 300}", [], "stop")),
        ("", (None, "", [], "stop")),
        (f"{ANALYSIS}hm<|end|><|start|>assist", ("hm", "", [], "stop")),
    ],
)
def test_harmony(text: str, expected: Read) -> None:
    for pieces in cuts(text):
        assert read(pieces, HARMONY, HARMONY_CALLS) == expected, pieces


def test_a_call_that_is_held_to_its_form_is_told_early() -> None:
    text = f"{ANALYSIS}hm<|end|><|start|>assistant{HARMONY_CALLS.start}get_weather{HARMONY_CALLS.inner}{CITY}"
    for end in ("", "<|call|>"):
        for pieces in cuts(text + end):
            assert read(pieces, HARMONY, HARMONY_CALLS, held=True) == ("hm", "", CALLED, "tool_calls"), pieces


def test_a_call_of_nobody_is_what_the_model_wrote() -> None:
    text = f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{CITY}<|call|>"
    assert read([text], HARMONY, None) == (None, CITY, [], "stop")


def test_tokens_before_the_words_are_those_of_the_thinking() -> None:
    parser = ChannelParser(calls=False)
    assert parser.feed(f"{ANALYSIS}a") == [Thought("a")]
    assert parser.said_nothing
    assert parser.thought
    assert parser.feed(f"<|end|>{FINAL}b") == ["b"]
    assert not parser.said_nothing


def gemma(arguments: str, name: str = "paint") -> str:
    return f"<|tool_call>call:{name}{arguments}<tool_call|>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|channel>thought\nhm\n<channel|>Yes.", ("hm", "Yes.", [], "stop")),
        ("<|channel>thought\n<channel|>Yes.", (None, "Yes.", [], "stop")),
        ("Yes <|channel> no", (None, "Yes <|channel> no", [], "stop")),
        (
            "<|channel>thought\nhm<channel|>" + gemma('{colour:<|"|>red, "dark": {x}<|"|>,coats:2}'),
            ("hm", "", [("paint", {"colour": 'red, "dark": {x}', "coats": 2})], "tool_calls"),
        ),
        (gemma("{}"), (None, "", [("paint", {})], "tool_calls")),
        (
            gemma('{to:[<|"|>a<|"|>,<|"|><|"|>],deep:{a:{b:-1.5e3,c:true},d:null},e:[]}'),
            (
                None,
                "",
                [("paint", {"to": ["a", ""], "deep": {"a": {"b": -1500.0, "c": True}, "d": None}, "e": []})],
                "tool_calls",
            ),
        ),
        (
            gemma('{a:<|"|>ä\n\\<|"|>}') + gemma("{ b : 1 }", "my.tool-2"),
            (None, "", [("paint", {"a": "ä\n\\"}), ("my.tool-2", {"b": 1})], "tool_calls"),
        ),
        (gemma("{colour:red}"), (None, gemma("{colour:red}"), [], "stop")),
        (gemma('{a:<|"|>x}'), (None, gemma('{a:<|"|>x}'), [], "stop")),
        ("<|tool_call>paint{}<tool_call|>", (None, "<|tool_call>paint{}<tool_call|>", [], "stop")),
    ],
)
def test_gemma_4(text: str, expected: Read) -> None:
    for pieces in cuts(text):
        assert read(pieces, GEMMA4, GEMMA4_CALLS) == expected, pieces
