"""What cannot be honoured is refused with 400, and the error names the client's own field."""

from typing import Any

import httpx
import pytest

from msp_common.contracts.model_type import ModelType
from support.chat_fakes import data_uri
from support.responses_talk import PATH, WEATHER, refusal

USER = {"role": "user", "content": "hello"}


def saying(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [USER, {"role": "user", "content": list(parts)}]


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("state", {"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_value"),
    ("a conversation", {"conversation": "conv_1"}, "conversation", "unsupported_value"),
    ("a stored prompt", {"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_value"),
    ("work in the background", {"background": True}, "background", "unsupported_value"),
    ("cutting the input", {"truncation": "auto"}, "truncation", "unsupported_value"),
    ("several answers", {"n": 2}, "n", "invalid_value"),
    ("a tool of OpenAI's", {"tools": [WEATHER, {"type": "web_search"}]}, "tools.1.type", "unsupported_value"),
    ("a tool without a name", {"tools": [{"type": "function"}]}, "tools.0.name", "invalid_value"),
    (
        "the chat's form of a tool",
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "tools.0.name",
        "invalid_value",
    ),
    (
        "an unknown function",
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice",
        "invalid_value",
    ),
    ("a function without a name", {"tool_choice": {"type": "function"}}, "tool_choice", "invalid_value"),
    ("a call of nothing", {"tool_choice": "required"}, "tool_choice", "invalid_value"),
    (
        "another tool's choice",
        {"tool_choice": {"type": "web_search_preview"}},
        "tool_choice",
        "unsupported_value",
    ),
    (
        "allowed tools of no list",
        {"tool_choice": {"type": "allowed_tools", "mode": "auto"}},
        "tool_choice.tools",
        "invalid_value",
    ),
    (
        "allowed tools of no mode",
        {
            "tools": [WEATHER],
            "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "get_weather"}]},
        },
        "tool_choice",
        "invalid_value",
    ),
    ("an unknown format", {"text": {"format": {"type": "grammar"}}}, "text.format", "unsupported_value"),
    (
        "a schema without a name",
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        "text.format.name",
        "invalid_value",
    ),
    (
        "an unsound schema",
        {"text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "objct"}}}},
        "text.format.schema.type",
        "invalid_schema",
    ),
    (
        "unsound arguments",
        {"tools": [{**WEATHER, "parameters": {"type": "objct"}}], "tool_choice": "required"},
        "tools.0.parameters.type",
        "invalid_schema",
    ),
    ("no input at all", {"input": None}, "input", "invalid_value"),
    ("an empty input", {"input": []}, "input", "invalid_value"),
    ("thinking alone", {"input": [{"type": "reasoning", "summary": []}]}, "input", "invalid_value"),
    (
        "a reference",
        {"input": [USER, {"type": "item_reference", "id": "msg_1"}]},
        "input.1.type",
        "unsupported_value",
    ),
    ("a reference without a type", {"input": [USER, {"id": "msg_1"}]}, "input.1.type", "unsupported_value"),
    (
        "an item of another tool",
        {"input": [USER, {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": ""}]}]},
        "input.1.type",
        "unsupported_value",
    ),
    ("an unknown role", {"input": [{"role": "critic", "content": "x"}]}, "input.0.role", "invalid_value"),
    (
        "a message without a role",
        {"input": [{"type": "message", "content": "x"}]},
        "input.0.role",
        "invalid_value",
    ),
    ("a message of nothing", {"input": [{"role": "user"}]}, "input.0.content", "invalid_value"),
    (
        "an output of no call",
        {"input": [USER, {"type": "function_call_output", "output": "x"}]},
        "input.1.call_id",
        "invalid_value",
    ),
    (
        "a call without a name",
        {"input": [USER, {"type": "function_call", "call_id": "c"}]},
        "input.1.name",
        "invalid_value",
    ),
    (
        "a text part of no text",
        {"input": saying({"type": "input_text"})},
        "input.1.content.0.text",
        "invalid_value",
    ),
    (
        "a file",
        {"input": saying({"type": "input_file", "file_data": "x"})},
        "input.1.content.0.type",
        "unsupported_value",
    ),
    (
        "a picture for a model of texts",
        {"input": saying({"type": "input_image", "image_url": data_uri()})},
        "input.1.content.0.image_url",
        "unsupported_value",
    ),
    ("too many alternatives", {"top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ("no room for the answer", {"max_output_tokens": 100_000}, "input", "context_length_exceeded"),
    ("too long an input", {"input": "x" * 9000}, "input", "context_length_exceeded"),
    ("metadata that is none", {"metadata": {"a": {"b": 1}}}, "metadata.a", "invalid_value"),
]


@pytest.mark.parametrize(
    ("body", "param", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_it_is_refused_by_name(url: str, body: dict[str, Any], param: str, code: str, stream: bool) -> None:
    status, error = refusal(url, **{"input": "hello", **body, "stream": stream})
    assert (status, error["param"], error["code"]) == (400, param, code), error["message"]
    assert "messages" not in error["message"]
    assert "response_format" not in error["message"]


SEES: list[tuple[str, dict[str, Any], str, str]] = [
    ("an address", {"image_url": "https://example.org/a.png"}, "image_url", "invalid_image_url"),
    ("a file's id", {"file_id": "file_1"}, "file_id", "unsupported_value"),
    ("no image", {}, "image_url", "invalid_value"),
    ("no base64", {"image_url": "data:image/png;base64,###"}, "image_url", "invalid_base64"),
    ("no picture", {"image_url": data_uri(b"hello")}, "image_url", "invalid_image"),
]


@pytest.mark.parametrize(("part", "param", "code"), [case[1:] for case in SEES], ids=[c[0] for c in SEES])
def test_pictures_come_in_the_request_or_not_at_all(
    url_for: Any, part: dict[str, Any], param: str, code: str
) -> None:
    url = url_for(None, ModelType.MULTIMODAL)
    status, error = refusal(url, input=saying({"type": "input_image", **part}))
    assert (status, error["param"], error["code"]) == (400, f"input.1.content.0.{param}", code)


def test_another_model_is_404(url: str) -> None:
    status, error = refusal(url, input="hello", model="org/other")
    assert (status, error["param"], error["code"]) == (404, "model", "model_not_found")


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@pytest.mark.parametrize("rest", ["resp_1", "resp_1/cancel", "resp_1/input_items", "a%2Fb"])
def test_no_response_is_kept(url: str, method: str, rest: str) -> None:
    answer = httpx.request(method, f"{url}{PATH}/{rest}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert "not stored" in answer.json()["error"]["message"]
