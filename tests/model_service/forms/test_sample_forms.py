"""The trained sample held to forms: what it says is of the form, and where it knows the matter, right."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from pydantic import BaseModel


def tool(name: str, *arguments: str) -> Any:
    properties = {argument: {"type": "string"} for argument in arguments}
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(arguments),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get_time", "city"), tool("get_weather", "city")]


def ask(client: openai.OpenAI, words: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": words}]
    settings: Any = {"temperature": 0, "max_tokens": 100, **more}
    (choice,) = client.chat.completions.create(model="", messages=messages, **settings).choices
    return choice


def calls(choice: Any) -> list[tuple[str, Any]]:
    return [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or []]


def schema_of(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_the_fitting_tool_is_called(sample: openai.OpenAI, choice: str) -> None:
    answer = ask(sample, "What is the weather in Lyon?", tools=TOOLS, tool_choice=choice)
    assert calls(answer) == [("get_weather", {"city": "Lyon"})]
    assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)


def test_two_calls_are_made_where_two_are_needed_and_one_where_one_is_wanted(sample: openai.OpenAI) -> None:
    words = "What is the weather in Oxford and Lyon?"
    both = [("get_weather", {"city": city}) for city in ("Oxford", "Lyon")]
    assert calls(ask(sample, words, tools=TOOLS)) == both
    assert calls(ask(sample, words, tools=TOOLS, tool_choice="required")) == both
    for choice in ("auto", "required"):
        one = ask(sample, words, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
        assert calls(one) == both[:1]


def test_a_named_function_is_called_whatever_was_asked(sample: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "get_time"}}
    for words in ("What is the weather in Lyon?", "Hello!"):
        answer = ask(sample, words, tools=TOOLS, tool_choice=named, parallel_tool_calls=False)
        assert [name for name, _ in calls(answer)] == ["get_time"]
        assert answer.finish_reason == "tool_calls"


def test_no_tool_is_called_when_none_may_be(sample: openai.OpenAI) -> None:
    answer = ask(sample, "What is the weather in Lyon?", tools=TOOLS, tool_choice="none")
    assert calls(answer) == []
    assert answer.message.content


def test_streamed_calls_are_those_that_are_not_streamed(sample: openai.OpenAI) -> None:
    asked: Any = {
        "model": "",
        "messages": [{"role": "user", "content": "What is the weather in Oxford and Lyon?"}],
        "tools": TOOLS,
        "tool_choice": "required",
        "temperature": 0,
    }
    with sample.chat.completions.stream(**asked) as events:
        events.until_done()
        (streamed,) = events.get_final_completion().choices
    (whole,) = sample.chat.completions.create(**asked).choices
    assert calls(streamed) == calls(whole)
    assert streamed.message.role == "assistant"


@pytest.mark.parametrize("seed", range(4))
def test_json_is_json_at_any_temperature(sample: openai.OpenAI, seed: int) -> None:
    schema = {
        "type": "object",
        "properties": {
            "capital": {"enum": ["Berlin", "Paris", "Rome"]},
            "sure": {"type": "boolean"},
            "year": {"type": "integer", "minimum": 1, "maximum": 2026},
        },
        "required": ["capital", "sure", "year"],
        "additionalProperties": False,
    }
    answer = ask(
        sample,
        "What is the capital of France?",
        response_format=schema_of(schema),
        temperature=1.5,
        seed=seed,
    )
    said = json.loads(answer.message.content)
    assert said["capital"] in schema["properties"]["capital"]["enum"]  # type: ignore[index]
    assert isinstance(said["sure"], bool)
    assert 1 <= said["year"] <= 2026
    assert answer.finish_reason == "stop"


def test_an_answer_cut_by_its_limit_says_so(sample: openai.OpenAI) -> None:
    answer = ask(sample, "Hello!", response_format={"type": "json_object"}, max_tokens=3)
    assert answer.message.content.startswith("{")
    assert answer.finish_reason == "length"


def test_choices_of_one_form_are_each_of_the_form(sample: openai.OpenAI) -> None:
    answer = sample.chat.completions.create(
        model="",
        messages=[{"role": "user", "content": "Hello!"}],
        response_format=schema_of({"enum": ["yes", "no"]}),
        n=4,
        seed=1,
        temperature=2,
    )
    assert {json.loads(choice.message.content or "") for choice in answer.choices} <= {"yes", "no"}


def test_log_probabilities_are_the_models_own_under_a_form(sample: openai.OpenAI) -> None:
    answer = ask(sample, "Hello!", response_format=schema_of({"enum": ["no"]}), logprobs=True, top_logprobs=1)
    told = answer.logprobs.content
    assert b"".join(bytes(one.bytes) for one in told).decode() == '"no"'
    assert told[0].top_logprobs[0].token != told[0].token  # what it would rather have said


def test_hostile_schemas_and_free_answers_live_side_by_side(sample: openai.OpenAI) -> None:
    hostile = [
        {"type": "string", "pattern": "^(([a-z]{1,100}){1,100}){1,100}$"},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(900)}},
        {"not": {}},
        {"enum": ["x" * 1000] * 100},
    ]

    def one(i: int) -> Any:
        if i % 2:
            return ask(sample, "What is the capital of France?").message.content
        try:
            form = schema_of(hostile[i // 2 % len(hostile)])
            return ask(sample, "Hello!", response_format=form, max_tokens=8).finish_reason
        except openai.BadRequestError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(16)))
    assert all("Paris" in answer for answer in answers[1::2])
    assert set(answers[::2]) <= {"stop", "length", "invalid_schema", "unsupported_schema"}


def test_the_clients_strict_tools_are_parsed_by_itself(sample: openai.OpenAI) -> None:
    class get_weather(BaseModel):
        city: str

    messages: Any = [{"role": "user", "content": "What is the weather in Lyon?"}]
    answer = sample.chat.completions.parse(
        model="", messages=messages, tools=[openai.pydantic_function_tool(get_weather)], temperature=0
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == get_weather(city="Lyon")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    words = sample.chat.completions.parse(
        model="", messages=messages, tools=[openai.pydantic_function_tool(get_weather)], temperature=0
    )
    assert "Paris" in (words.choices[0].message.content or "")
    assert not words.choices[0].message.tool_calls
