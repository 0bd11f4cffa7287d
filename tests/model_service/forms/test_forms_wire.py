"""Forms of answers and forced calls, as the official client asks for them and reads them."""

import json
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from msp_common.contracts.workers import Capabilities
from msp_model_service.engines.fake_chat import FakeChatEngine
from msp_model_service.engines.lifecycle import EngineOptions
from support.chat_fakes import WEATHER, chat_app, fake_engine, user
from support.servers import run_server

HELLO = [user("hello")]
TIME: Any = {"type": "function", "function": {"name": "get_time"}}


class Point(BaseModel):
    x: int
    tags: list[str]


class CannotHoldToForms(FakeChatEngine):
    """As engines are that choose tokens out of our sight."""

    def capabilities(self) -> Capabilities:
        return super().capabilities().model_copy(update={"json_schema": False})


class KnowsNoTools(FakeChatEngine):
    def capabilities(self) -> Capabilities:
        return super().capabilities().model_copy(update={"tools": False})


@pytest.fixture(scope="module")
def client() -> Any:
    with (
        run_server(chat_app(fake_engine())) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


def post(client: openai.OpenAI, **body: Any) -> httpx.Response:
    return httpx.post(f"{client.base_url}chat/completions", json={"messages": HELLO, **body})


def test_json_of_any_kind(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="", messages=HELLO, response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content or "") == {}


def test_the_clients_own_parsing_of_a_pydantic_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="", messages=HELLO, response_format=Point)
    assert answer.choices[0].message.parsed == Point(x=0, tags=[])


def test_the_clients_own_parsing_in_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="", messages=HELLO, response_format=Point) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.parsed == Point(x=0, tags=[])


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("required", "get_weather"),
        ({"type": "function", "function": {"name": "get_time"}}, "get_time"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "get_time"}}],
                },
            },
            "get_time",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_can_be_forced(client: openai.OpenAI, choice: Any, called: str, stream: bool) -> None:
    asked: Any = {"model": "", "messages": HELLO, "tools": [WEATHER, TIME], "tool_choice": choice}
    if stream:
        with client.chat.completions.stream(**asked) as events:
            events.until_done()
            (chosen,) = events.get_final_completion().choices
    else:
        (chosen,) = client.chat.completions.create(**asked).choices
    (call,) = chosen.message.tool_calls or []
    assert call.function.name == called
    assert isinstance(json.loads(call.function.arguments), dict)
    assert chosen.finish_reason == "tool_calls"
    assert not chosen.message.content


def test_only_allowed_tools_are_shown(client: openai.OpenAI) -> None:
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "get_time"}}]}
    body = {
        "messages": [user("get_weather please")],
        "tools": [WEATHER, TIME],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed},
    }
    assert post(client, **body).json()["choices"][0]["finish_reason"] == "stop"


def schema_format(schema: Any, **more: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


IN = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": schema_format({"type": "strin"})}, f"{IN}.type"),
        (
            {"response_format": schema_format({"properties": {"a": {"$ref": "http://x/y"}}})},
            f"{IN}.properties.a.$ref",
        ),
        ({"response_format": schema_format({"enum": [0] * 20_000})}, IN),
        ({"response_format": schema_format("x")}, IN),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": "any", "tools": [WEATHER]}, "tool_choice"),
        ({"tool_choice": {"type": "function"}, "tools": [WEATHER]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": [WEATHER]}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}, "tools": [WEATHER]}, "tool_choice.allowed_tools"),
        (
            {
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}],
            },
            "tools.0.function.parameters.type",
        ),
        (
            {
                "tool_choice": "required",
                "tools": [
                    WEATHER,
                    {"type": "function", "function": {"name": "f", "parameters": {"required": 5}}},
                ],
            },
            "tools.1.function.parameters.required",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_place(
    client: openai.OpenAI, body: dict[str, Any], param: str
) -> None:
    answer = post(client, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_nulls_in_forms_are_accepted(client: openai.OpenAI) -> None:
    form = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": None, "strict": None, "description": None},
    }
    assert post(client, response_format=form).json()["choices"][0]["message"]["content"] == "{}"
    assert post(client, response_format={"type": "text", "json_schema": None}).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": schema_format({"type": "object"})}, "response_format"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice"),
    ],
)
def test_an_engine_that_cannot_hold_to_forms_says_so(body: dict[str, Any], param: str) -> None:
    engine = CannotHoldToForms(EngineOptions(), fake_engine()._model_type)
    engine.load(None, lambda phase, done: None)  # type: ignore[arg-type]
    with run_server(chat_app(engine)) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": HELLO, **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        free = {"messages": HELLO, "tools": [WEATHER], "tool_choice": "auto"}
        assert httpx.post(f"{url}/v1/chat/completions", json=free).status_code == 200


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_a_model_without_tools_refuses_them(choice: str | None) -> None:
    engine = KnowsNoTools(EngineOptions(), fake_engine()._model_type)
    engine.load(None, lambda phase, done: None)  # type: ignore[arg-type]
    with run_server(chat_app(engine)) as url:
        body = {"messages": HELLO, "tools": [WEATHER], "tool_choice": choice}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
        hidden = httpx.post(f"{url}/v1/chat/completions", json={**body, "tool_choice": "none"})
        assert hidden.status_code == 200
