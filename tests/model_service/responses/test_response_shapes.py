"""Responses whole and streamed, from an engine without a model: shapes, order and what is told back."""

from typing import Any

import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.chat.conversation import Conversation
from msp_model_service.chat.reasoning import THINK
from msp_model_service.chat.tool_formats import HERMES
from support.chat_fakes import data_uri, fake_engine
from support.responses_talk import WEATHER, ask, comparable, listen, types

WORDS = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done"]
WORDS += ["content_part.done", "output_item.done"]
THOUGHT = [name.replace("output_text", "reasoning_text") for name in WORDS]
CALL = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done"]
CALL += ["output_item.done"]
BEGUN = ["created", "in_progress"]


def thoughtful(conversation: Conversation) -> str:
    return f"<think>They said {conversation.messages[-1].text!r}.</think>\n\nI see."


def calls_twice(conversation: Conversation) -> str:
    call = f'{HERMES.start}\n{{"name": "get_weather", "arguments": {{"city": "Lyon"}}}}\n{HERMES.end}'
    return f"Let me see.\n{call}\n{call}\nThat is all."


@pytest.fixture(scope="module")
def thinking_url(url_for: Any) -> str:
    return str(url_for(fake_engine(reasoning=THINK, answer=thoughtful)))


@pytest.fixture(scope="module")
def calling_url(url_for: Any) -> str:
    return str(url_for(fake_engine(answer=calls_twice)))


def test_a_text_is_answered_by_one_message(url: str) -> None:
    response = ask(url, input="hello")
    item: Any = response.output[0]
    assert len(response.output) == 1
    assert (item.type, item.status) == ("message", "completed")
    assert response.output_text == "You said: hello"
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    assert response.completed_at is not None
    assert response.usage is not None
    assert response.usage.output_tokens == len("You said: hello") + 1
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_the_events_of_a_message_come_in_the_order_of_the_specification(url: str) -> None:
    events = listen(url, input="hello")
    assert types(events) == [*BEGUN, *WORDS, "completed"]
    assert [e.response.status for e in events if hasattr(e, "response")] == [
        "in_progress",
        "in_progress",
        "completed",
    ]
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert len(deltas) > 3
    assert "".join(deltas) == "You said: hello"
    last = events[-1].response
    assert {e.item_id for e in events if hasattr(e, "item_id")} == {last.output[0].id}
    assert {e.response.id for e in events if hasattr(e, "response")} == {last.id}
    assert events[0].response.usage is None
    assert events[0].response.output == []


def test_thinking_is_an_item_of_its_own_before_the_message(thinking_url: str) -> None:
    events = listen(thinking_url, input="hello")
    assert types(events) == [*BEGUN, *THOUGHT, *WORDS, "completed"]
    response = ask(thinking_url, input="hello")
    thought, words = response.output
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert [part.text for part in thought.content] == ["They said 'hello'."]
    assert (thought.summary, words.type) == ([], "message")
    assert response.output_text == "I see."
    assert response.usage is not None
    assert 20 < response.usage.output_tokens_details.reasoning_tokens < response.usage.output_tokens


def test_thinking_that_is_cut_is_an_incomplete_item_without_a_message(thinking_url: str) -> None:
    response = ask(thinking_url, input="hello", max_output_tokens=15)
    assert [(item.type, getattr(item, "status", None)) for item in response.output] == [
        ("reasoning", "incomplete")
    ]
    assert response.status == "incomplete"


def test_calls_and_words_are_items_in_the_order_in_which_they_were_said(calling_url: str) -> None:
    events = listen(calling_url, input="hello", tools=[WEATHER])
    assert types(events) == [*BEGUN, *WORDS, *CALL, *CALL, *WORDS, "completed"]
    words, one, other, more = events[-1].response.output
    assert (words.content[0].text, more.content[0].text) == ("Let me see.", "That is all.")
    assert [(c.name, c.arguments, c.status) for c in (one, other)] == 2 * [
        ("get_weather", '{"city": "Lyon"}', "completed")
    ]
    assert one.call_id != other.call_id
    indexes = [e.output_index for e in events if e.type == "response.output_item.added"]
    assert indexes == [0, 1, 2, 3]


def test_one_call_only_where_several_are_not_wanted(calling_url: str) -> None:
    response = ask(calling_url, input="hello", tools=[WEATHER], parallel_tool_calls=False)
    assert [item.type for item in response.output].count("function_call") == 1
    assert response.parallel_tool_calls is False


@pytest.mark.parametrize("tool_choice", ["required", {"type": "function", "name": "get_weather"}])
def test_forced_calls_are_told_while_they_are_written(url: str, tool_choice: Any) -> None:
    body = {"input": "hello", "tools": [WEATHER], "tool_choice": tool_choice}
    events = listen(url, **body)
    assert types(events) == [*BEGUN, *CALL, "completed"]
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == events[-1].response.output[0].arguments == '{"city": ""}'
    assert ask(url, **body).tool_choice == events[-1].response.tool_choice


def test_an_answer_that_is_cut_is_incomplete(url: str) -> None:
    events = listen(url, input="hello", max_output_tokens=4)
    assert types(events) == [*BEGUN, *WORDS, "incomplete"]
    response = events[-1].response
    assert response.incomplete_details.reason == "max_output_tokens"
    assert (response.output[0].status, response.completed_at) == ("incomplete", None)
    assert response.usage.output_tokens == 4


def test_an_answer_without_a_word_is_an_empty_message(url_for: Any) -> None:
    silent = url_for(fake_engine(answer=lambda conversation: ""))
    events = listen(silent, input="hello")
    assert types(events) == [*BEGUN, *[n for n in WORDS if n != "output_text.delta"], "completed"]
    assert ask(silent, input="hello").output_text == ""


BODIES: list[dict[str, Any]] = [
    {"input": "hello"},
    {"input": "hello", "max_output_tokens": 5},
    {"input": "get_weather please", "tools": [WEATHER]},
    {"input": "hello", "tools": [WEATHER], "tool_choice": "required"},
    {"input": "hello", "text": {"format": {"type": "json_object"}}},
    {"input": "hello", "top_logprobs": 2, "include": ["message.output_text.logprobs"]},
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: ",".join(body))
@pytest.mark.parametrize("of", ["url", "thinking_url", "calling_url"])
def test_a_stream_ends_in_the_very_response_that_is_told_whole(
    body: dict[str, Any], of: str, request: pytest.FixtureRequest
) -> None:
    where = request.getfixturevalue(of)
    last = listen(where, **body)[-1].response
    assert comparable(last) == comparable(ask(where, **body))


@pytest.mark.parametrize("of", ["url", "thinking_url", "calling_url"])
def test_the_done_events_tell_what_the_last_response_holds(of: str, request: pytest.FixtureRequest) -> None:
    events = listen(request.getfixturevalue(of), input="get_weather", tools=[WEATHER])
    done = [e.item for e in events if e.type == "response.output_item.done"]
    assert done == events[-1].response.output


def test_log_probabilities_are_told_of_words_only_and_on_request(url: str, thinking_url: str) -> None:
    unasked: Any = ask(url, input="hi").output[0]
    assert unasked.content[0].logprobs == []
    for where, words in ((url, "You said: hi"), (thinking_url, "I see.")):
        events = listen(where, input="hi", top_logprobs=1)
        told = [lp for e in events if e.type == "response.output_text.delta" for lp in e.logprobs]
        [part] = [e.part for e in events if e.type == "response.content_part.done"][-1:]
        assert [lp.token for lp in told] == [lp.token for lp in part.logprobs]
        assert "".join(lp.token for lp in told).removesuffix("<end>").lstrip() == words
        assert all(len(lp.top_logprobs) == 1 for lp in told)


def test_what_was_asked_is_told_back(url: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    response = ask(
        url,
        model="nick",
        input="hello",
        instructions="Be brief.",
        metadata={"ticket": "7"},
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        tools=[{**WEATHER, "strict": True}],
        tool_choice="none",
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "an_a", "schema": schema, "strict": True}},
        reasoning={"effort": "low", "summary": "auto"},
        store=True,
        truncation="disabled",
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        service_tier="flex",
        include=["reasoning.encrypted_content"],
        stream_options={"include_obfuscation": False},
        some_field_of_tomorrow={"x": 1},
    )
    told = response.model_dump(by_alias=True)
    assert response.model == "org/model"
    assert told["text"]["format"]["schema"] == schema
    assert told["tools"][0]["strict"] is True
    assert {
        name: told[name] for name in ("instructions", "metadata", "max_output_tokens", "temperature")
    } == {
        "instructions": "Be brief.",
        "metadata": {"ticket": "7"},
        "max_output_tokens": 50,
        "temperature": 0.5,
    }
    assert (response.top_p, response.tool_choice, response.parallel_tool_calls) == (0.9, "none", False)
    assert (response.reasoning.effort, response.reasoning.summary) == ("low", None)  # type: ignore[union-attr]
    assert told["store"] is False
    assert (response.user, response.safety_identifier, response.prompt_cache_key) == ("u", "s", "k")
    assert (response.service_tier, response.truncation) == ("default", "disabled")


def test_every_parameter_may_be_null(url: str) -> None:
    names = (
        "model instructions max_output_tokens temperature top_p tools tool_choice parallel_tool_calls text"
    )
    names += " reasoning metadata store stream truncation include previous_response_id conversation prompt"
    names += " background user top_logprobs stream_options service_tier max_tool_calls"
    response = ask(url, input="hello", **dict.fromkeys(names.split()))
    assert (response.tool_choice, response.temperature, response.top_p) == ("auto", 1.0, 1.0)


def test_pictures_are_seen(url_for: Any) -> None:
    url = url_for(None, ModelType.MULTIMODAL)
    parts = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": data_uri(), "detail": "auto"},
    ]
    response = ask(url, input=[{"role": "user", "content": parts}])
    assert response.output_text == "You said: look I see 20 x 10 pixels."
