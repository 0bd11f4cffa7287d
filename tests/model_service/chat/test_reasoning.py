"""Thinking told apart from what is said, however the text arrives, and as the official client sees it."""

import json
from typing import Any

import httpx
import openai
import pytest

from msp_model_service.chat.conversation import Conversation
from msp_model_service.chat.reasoning import BRACKETS, THINK, ReasoningParser, Thought, reasoning_of
from msp_model_service.engines.fake_chat import FakeChatEngine
from support.chat_fakes import WEATHER, fake_engine, user

Make = Any


def split(text: str, size: int, *, begun: bool = False) -> tuple[str, str]:
    parser = ReasoningParser(THINK, begun=begun)
    parts: list[Thought | str] = []
    for i in range(0, len(text), size):
        parts += parser.feed(text[i : i + size])
    parts += parser.finish()
    thoughts = "".join(part.text for part in parts if isinstance(part, Thought))
    return thoughts, "".join(part for part in parts if isinstance(part, str))


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("text", "begun", "thought", "said"),
    [
        ("<think>\nso\n</think>\n\nYes.", False, "so", "Yes."),
        ("\n<think>a < b, c</think>Yes.", False, "a < b, c", "Yes."),
        ("<think>\n\n</think>\n\nYes.", False, "", "Yes."),
        ("so\n</think>\nYes.", True, "so", "Yes."),
        ("Yes <think>no</think>", False, "", "Yes <think>no</think>"),
        ("<thinner>", False, "", "<thinner>"),
        ("<thi", False, "", "<thi"),
        ("", False, "", ""),
        ("  Yes", False, "", "  Yes"),
        ("<think>cut in the mid", False, "cut in the mid", ""),
        ("cut </th", True, "cut </th", ""),
        ("<think>a</think>b</think>c", False, "a", "b</think>c"),
        ("<think>two\n\nparts </think> Yes", False, "two\n\nparts", "Yes"),
    ],
)
def test_thinking_and_words_are_told_apart(
    text: str, begun: bool, thought: str, said: str, size: int
) -> None:
    assert split(text, size, begun=begun) == (thought, said)


def test_the_template_tells_the_markers() -> None:
    assert reasoning_of("{{ content.split('</think>')[-1] }}") == THINK
    assert reasoning_of("[THINK]{{ c }}[/THINK]") == BRACKETS
    assert reasoning_of("{{ content }}") is None


def thinking(text: str) -> FakeChatEngine:
    def answer(conversation: Conversation) -> str:
        return text

    return fake_engine(answer=answer, reasoning=THINK)


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"text": "a"}}\n</tool_call>'


def test_thinking_has_a_field_of_its_own(client_for: Make) -> None:
    client: openai.OpenAI = client_for(thinking("<think>\nhm é🙂\n</think>\n\nYes."))
    answer = client.chat.completions.create(model="", messages=[user("?")])
    message: Any = answer.choices[0].message
    assert (message.reasoning_content, message.content) == ("hm é🙂", "Yes.")
    assert answer.usage is not None
    details = answer.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens == len("<think>\nhm é🙂\n</think>".encode())


def test_thinking_is_streamed_as_it_comes_and_before_the_words(client_for: Make) -> None:
    client: openai.OpenAI = client_for(thinking("<think>\nhm é🙂\n</think>\n\nYes."))
    body = {"messages": [user("?")], "stream": True, "stream_options": {"include_usage": True}}
    frames = httpx.post(f"{client.base_url}chat/completions", json=body).text.split("\n\n")[:-2]
    bodies = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    deltas = [body["choices"][0]["delta"] for body in bodies if body["choices"]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    thoughts = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
    words = [delta["content"] for delta in deltas[1:] if "content" in delta]
    assert len(thoughts) > 1
    assert ("".join(thoughts), "".join(words)) == ("hm é🙂", "Yes.")
    kinds = ["reasoning_content" in delta for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert bodies[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_a_model_that_thinks_may_call_behind_it(client_for: Make) -> None:
    client: openai.OpenAI = client_for(thinking(f"<think>call {CALL}?</think>\n{CALL}"))
    (choice,) = client.chat.completions.create(model="", messages=[user("?")], tools=[WEATHER]).choices
    message: Any = choice.message
    assert len(message.tool_calls) == 1
    assert message.reasoning_content == f"call {CALL}?"
    assert (message.content, choice.finish_reason) == (None, "tool_calls")


def test_stop_sequences_do_not_end_thinking(client_for: Make) -> None:
    client: openai.OpenAI = client_for(thinking("<think>a. b. c</think>\n\nYes. No."))
    (choice,) = client.chat.completions.create(model="", messages=[user("?")], stop=".").choices
    message: Any = choice.message
    assert (message.reasoning_content, message.content) == ("a. b. c", "Yes")
    assert choice.finish_reason == "stop"


def test_thinking_that_is_cut_says_so(client_for: Make) -> None:
    client: openai.OpenAI = client_for(thinking("<think>a long thought</think>Yes."))
    (choice,) = client.chat.completions.create(model="", messages=[user("?")], max_tokens=12).choices
    message: Any = choice.message
    assert (message.reasoning_content, message.content) == ("a lon", "")
    assert choice.finish_reason == "length"


def test_a_model_that_does_not_think_has_no_such_field(client: openai.OpenAI) -> None:
    body = {"messages": [user("<think>x</think>")]}
    answer = httpx.post(f"{client.base_url}chat/completions", json=body).json()
    assert "reasoning_content" not in answer["choices"][0]["message"]
    assert "completion_tokens_details" not in answer["usage"]


def test_what_was_thought_may_be_sent_back(client: openai.OpenAI) -> None:
    earlier = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    body = {"messages": [user("a"), earlier, user("b")]}
    assert httpx.post(f"{client.base_url}chat/completions", json=body).status_code == 200
    body["messages"][1]["reasoning_content"] = None
    assert httpx.post(f"{client.base_url}chat/completions", json=body).status_code == 200
