"""Tool calls as the official client sees them."""

import json
from typing import Any

import httpx
import openai
import pytest

from msp_model_service.chat.conversation import Conversation
from msp_model_service.engines.fake_chat import FakeChatEngine
from support.chat_fakes import WEATHER, fake_engine, user

ASK = [user("Please get_weather of Paris")]
Make = Any


def call(**arguments: Any) -> str:
    return "<tool_call>\n" + json.dumps({"name": "get_weather", "arguments": arguments}) + "\n</tool_call>"


def saying(text: str) -> FakeChatEngine:
    def answer(conversation: Conversation) -> str:
        return text

    return fake_engine(answer=answer)


def test_a_call_is_told_as_the_client_wants_it(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="", messages=ASK, tools=[WEATHER])
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (made,) = choice.message.tool_calls or []
    assert made.type == "function"
    assert made.function.name == "get_weather"
    assert json.loads(made.function.arguments) == {"text": ASK[0]["content"]}


def test_the_result_of_a_call_is_read(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="", messages=ASK, tools=[WEATHER]).choices[0].message
    (made,) = first.tool_calls or []
    messages = [*ASK, first, {"role": "tool", "tool_call_id": made.id, "content": "sunny"}]
    answer = client.chat.completions.create(model="", messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "The tool said: sunny"
    assert answer.choices[0].finish_reason == "stop"


def test_the_strict_stream_helper_understands_parallel_calls(client_for: Make) -> None:
    text = f"Looking.\n{call(text='a')}\n{call(text='b')}"
    client = client_for(saying(text))
    with client.chat.completions.stream(model="", messages=ASK, tools=[WEATHER]) as stream:
        stream.until_done()
        (choice,) = stream.get_final_completion().choices
    assert choice.message.role == "assistant"
    assert (choice.message.content, choice.finish_reason) == ("Looking.", "tool_calls")
    made = choice.message.tool_calls or []
    assert [json.loads(one.function.arguments) for one in made] == [{"text": "a"}, {"text": "b"}]
    assert [one.function.name for one in made] == ["get_weather"] * 2
    assert len({one.id for one in made}) == 2


def test_deltas_name_a_call_once_and_number_it(client_for: Make) -> None:
    client = client_for(saying(f"{call(text='a')}{call(text='b')}"))
    body = {"messages": ASK, "tools": [WEATHER], "stream": True}
    frames = httpx.post(f"{client.base_url}chat/completions", json=body).text.split("\n\n")[:-2]
    choices = [json.loads(frame.removeprefix("data: "))["choices"][0] for frame in frames]
    assert choices[0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    made = [one for c in choices for one in c["delta"].get("tool_calls", [])]
    assert [one["index"] for one in made] == [0, 0, 1, 1]
    assert ["id" in one for one in made] == [True, False, True, False]
    assert made[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert choices[-1]["delta"] == {}
    assert choices[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_one_call_at_a_time_when_parallel_ones_are_not_wanted(client_for: Make, stream: bool) -> None:
    client = client_for(saying(f"{call(text='a')}\n{call(text='b')}"))
    body = {"messages": ASK, "tools": [WEATHER], "parallel_tool_calls": False, "stream": stream}
    answer = httpx.post(f"{client.base_url}chat/completions", json=body)
    assert answer.text.count('"name":"get_weather"') == 1
    assert '"finish_reason":"tool_calls"' in answer.text


def test_a_malformed_call_is_words_and_no_error(client_for: Make) -> None:
    text = '<tool_call>\n{"name": "get_weather", "arguments": {\n</tool_call>'
    client = client_for(saying(text))
    (choice,) = client.chat.completions.create(model="", messages=ASK, tools=[WEATHER]).choices
    assert (choice.message.content, choice.finish_reason) == (text, "stop")
    assert choice.message.tool_calls is None


@pytest.mark.parametrize("depth", [200, 400, 900])
def test_deeply_nested_schemas_break_nothing(client: openai.OpenAI, depth: int) -> None:
    schema = '{"x":' * depth + "{}" + "}" * depth
    tool = '{"type": "function", "function": {"name": "f", "parameters": ' + schema + "}}"
    body = '{"messages": [{"role": "user", "content": "hi"}], "tools": [' + tool + "]}"
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{client.base_url}chat/completions", content=body, headers=headers)
    assert answer.status_code in (200, 400), answer.text


def test_tools_are_not_shown_when_none_shall_be_called(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="", messages=ASK, tools=[WEATHER], tool_choice="none")
    assert answer.choices[0].message.content == f"You said: {ASK[0]['content']}"


def test_words_that_look_like_a_call_are_words_without_tools(client_for: Make) -> None:
    client = client_for(saying(call(text="a")))
    (choice,) = client.chat.completions.create(model="", messages=ASK).choices
    assert choice.message.content == call(text="a")


def test_an_answer_cut_within_a_call_says_so(client_for: Make) -> None:
    client = client_for(saying(call(text="a")))
    (choice,) = client.chat.completions.create(model="", messages=ASK, tools=[WEATHER], max_tokens=30).choices
    assert choice.finish_reason == "length"
    assert choice.message.content == call(text="a")[:30]
