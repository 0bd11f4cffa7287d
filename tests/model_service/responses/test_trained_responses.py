"""The trained samples, asked with the official client: meaning, tools, forms, pictures."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning
from support.chat_fakes import chat_app
from support.responses_talk import WEATHER, ask, comparable, listen
from support.servers import run_server

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
FRANCE = "What is the capital of France?"
LYON = "What is the weather in Lyon?"
BOTH = "What is the weather in Oxford and Lyon?"
GREEDY: dict[str, Any] = {"model": "org/model", "temperature": 0, "max_output_tokens": 60}


class Capital(BaseModel):
    """Closed sets: so small a model would never end a text of its own."""

    city: Literal["Rome", "Paris", "Oslo"]
    large: bool


def test_a_question_is_answered(sample: openai.OpenAI) -> None:
    response = sample.responses.create(input=FRANCE, **GREEDY)
    assert response.output_text == "The capital of France is Paris."
    assert response.status == "completed"


def test_a_stream_says_the_same_and_the_client_puts_it_together(sample: openai.OpenAI) -> None:
    with sample.responses.stream(input=FRANCE, **GREEDY) as stream:
        words = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert len(words) > 3
    assert "".join(words) == final.output_text == "The capital of France is Paris."
    assert final.usage is not None
    assert final.usage.output_tokens == sample.responses.create(input=FRANCE, **GREEDY).usage.output_tokens


@pytest.mark.parametrize(
    "asked",
    [
        {"instructions": "Answer in one word.", "input": "What is the capital of Italy?"},
        {
            "input": [
                {"type": "message", "role": "system", "content": "Answer in one word."},
                {"type": "message", "role": "user", "content": "What is the capital of Italy?"},
            ]
        },
    ],
    ids=["instructions", "a system message"],
)
def test_instructions_are_followed(sample: openai.OpenAI, asked: Any) -> None:
    assert sample.responses.create(**asked, **GREEDY).output_text == "Rome"


def test_a_conversation_is_remembered_from_the_items_that_came_back(sample: openai.OpenAI) -> None:
    said: list[Any] = [{"role": "user", "content": "My name is Alice."}]
    first = sample.responses.create(input=said, **GREEDY)
    said += [*first.output, {"role": "user", "content": "What is my name?"}]
    assert sample.responses.create(input=said, **GREEDY).output_text == "Your name is Alice."


@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_called_and_its_output_used(sample: openai.OpenAI, stream: bool) -> None:
    said: list[Any] = [{"role": "user", "content": LYON}]
    tools: Any = [WEATHER]
    if stream:
        with sample.responses.stream(input=said, tools=tools, **GREEDY) as events:
            first: Any = events.get_final_response()
    else:
        first = sample.responses.create(input=said, tools=tools, **GREEDY)
    [call] = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "get_weather",
        {"city": "Lyon"},
    )
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny, 21 degrees"}
    answer = sample.responses.create(input=[*said, call.to_dict(), output], tools=tools, **GREEDY)
    assert answer.output_text == "The weather in Lyon is sunny, 21 degrees."


def test_two_functions_are_called_at_once(sample: openai.OpenAI) -> None:
    calls: list[Any] = list(sample.responses.create(input=BOTH, tools=[WEATHER], **GREEDY).output)  # type: ignore[list-item]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Oxford", "Lyon"]
    assert len({call.call_id for call in calls}) == 2


def test_no_function_is_called_against_the_clients_will(sample: openai.OpenAI) -> None:
    tools: Any = [WEATHER]
    free = sample.responses.create(input=LYON, tools=tools, tool_choice="none", **GREEDY)
    assert [item.type for item in free.output] == ["message"]
    forced = sample.responses.create(input=FRANCE, tools=tools, tool_choice="required", **GREEDY)
    assert [item.type for item in forced.output] == ["function_call"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_held_to_a_pydantic_model(sample: openai.OpenAI, stream: bool) -> None:
    asked = {**GREEDY, "max_output_tokens": 300}
    if stream:
        with sample.responses.stream(input=FRANCE, text_format=Capital, **asked) as events:
            parsed = events.get_final_response().output_parsed
    else:
        parsed = sample.responses.parse(input=FRANCE, text_format=Capital, **asked).output_parsed
    assert isinstance(parsed, Capital)
    assert parsed.city == "Paris"


def test_the_arguments_of_a_strict_function_are_parsed(sample: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Capital, name="note_capital")["function"]
    tools: Any = [{"type": "function", **tool}]
    asked = {**GREEDY, "max_output_tokens": 300}
    response = sample.responses.parse(input=FRANCE, tools=tools, tool_choice="required", **asked)
    call: Any = response.output[0]
    assert Capital.model_validate(call.parsed_arguments)


@pytest.mark.parametrize(
    "asked",
    [
        {"input": FRANCE},
        {"input": BOTH, "tools": [WEATHER]},
        {"input": LYON, "tools": [{**WEATHER, "strict": True}]},
        {"input": FRANCE, "tools": [WEATHER], "tool_choice": "required"},
        {"input": FRANCE, "top_logprobs": 3},
        {"input": "Count to one hundred.", "max_output_tokens": 20},
    ],
    ids=["words", "calls", "strict", "forced", "logprobs", "cut"],
)
def test_streams_are_the_same_as_whole_responses_and_both_are_sound(sample_url: str, asked: Any) -> None:
    last = listen(sample_url, **{**GREEDY, **asked})[-1].response
    whole = ask(sample_url, **{**GREEDY, **asked})
    for told in (last, whole):
        assert told.usage is not None
        told.usage.input_tokens_details.cached_tokens = 0  # the second of two has what the first one read
    assert comparable(last) == comparable(whole)


def test_the_defaults_told_are_those_of_the_models_repository(sample: openai.OpenAI) -> None:
    response = sample.responses.create(model="org/model", input=FRANCE, max_output_tokens=5)
    said = json.loads((SAMPLES / "chat" / "generation_config.json").read_text())
    assert (response.temperature, response.top_p) == (said["temperature"], said["top_p"])


@pytest.fixture(scope="module")
def vision() -> Iterator[openai.OpenAI]:
    engine = SlotChatEngine(EngineOptions(device="cpu"), ModelType.MULTIMODAL, SlotTuning(kv_tokens=8192))
    engine.load(SAMPLES / "vision", lambda phase, done: None)
    with (
        run_server(chat_app(engine, ModelType.MULTIMODAL)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client
    engine.unload()


@pytest.mark.parametrize(
    ("name", "said"), [("red-circle.png", "A red circle."), ("blue-star.png", "A blue star.")]
)
def test_a_picture_is_described(vision: openai.OpenAI, name: str, said: str) -> None:
    picture = base64.b64encode((SAMPLES / "images" / name).read_bytes()).decode()
    uri = f"data:image/png;base64,{picture}"
    response = vision.responses.create(
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is in the picture?"},
                    {"type": "input_image", "image_url": uri, "detail": "auto"},
                ],
            }
        ],
        **GREEDY,
    )
    assert response.output_text.lower() == said.lower()
