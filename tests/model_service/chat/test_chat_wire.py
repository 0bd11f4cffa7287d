"""Chat completions as the official client and raw bytes see them."""

import json
from typing import Any

import httpx
import openai
import pytest

from msp_model_service.engines.fake_chat import CONTEXT_LENGTH
from support.chat_fakes import MODEL, Gate, RecordingUsage, chat_app, fake_engine, image_part, user
from support.servers import run_server

HELLO = [user("hello")]
Make = Any


def post(client: openai.OpenAI, **body: Any) -> httpx.Response:
    return httpx.post(f"{client.base_url}chat/completions", json={"messages": HELLO, **body})


def test_half_an_emoji_does_no_harm(client: openai.OpenAI) -> None:
    content = json.dumps({"messages": [user("cut \ud83d")]})
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{client.base_url}chat/completions", content=content, headers=headers)
    assert answer.json()["choices"][0]["message"]["content"] == "You said: cut \ufffd"


def refused(client: openai.OpenAI, **body: Any) -> dict[str, Any]:
    answer = post(client, **body)
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """The JSON of all frames but the last, which must be `[DONE]`."""
    frames = answer.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def test_an_answer_has_all_that_the_client_needs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)
    (choice,) = answer.choices
    assert choice.message.content == "You said: hello"
    assert (choice.message.role, choice.finish_reason, choice.index) == ("assistant", "stop", 0)
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("body", [{}, {"model": ""}, {"model": None}, {"model": "nick"}])
def test_a_request_without_model_is_answered_by_name(client: openai.OpenAI, body: dict[str, Any]) -> None:
    assert post(client, **body).json()["model"] == MODEL


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="other", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_stream_is_framed_as_openai_frames_it(client: openai.OpenAI) -> None:
    answer = post(client, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    chunks = events(answer)
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0]["role"] == "assistant"
    assert deltas[0]["content"] == ""
    assert all("role" not in delta for delta in deltas[1:])
    reasons = [c["choices"][0]["finish_reason"] for c in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert deltas[-1] == {}
    assert all("usage" not in c for c in chunks)


def test_usage_is_streamed_when_asked_for(client: openai.OpenAI) -> None:
    chunks = events(post(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == post(client).json()["usage"]
    assert all(c["usage"] is None for c in chunks[:-1])


@pytest.mark.parametrize("words", ["héllo 漢字 🙂👩‍👩‍👧", "a\u2028b\u0085c", "\x00\x1b", " spaces "])
@pytest.mark.parametrize("limit", [None, 12, 13, 14, 15])
def test_streamed_or_not_the_text_is_the_same_and_whole(
    client: openai.OpenAI, words: str, limit: int | None
) -> None:
    messages = [user(words)]
    whole = client.chat.completions.create(model="", messages=messages, max_tokens=limit).choices[0]
    stream = client.chat.completions.create(model="", messages=messages, max_tokens=limit, stream=True)
    pieces = [c.choices[0].delta.content or "" for c in stream]
    assert "".join(pieces) == whole.message.content
    assert not any("\ufffd" in piece for piece in pieces)
    if limit is None:
        assert whole.message.content == f"You said: {words}"
    else:
        assert whole.finish_reason == "length" or len(words) < 5


def test_a_stream_without_it_has_no_usage_and_a_whole_answer_always(client: openai.OpenAI) -> None:
    for options in (None, {}, {"include_usage": None}, {"include_usage": False, "include_obfuscation": True}):
        assert all(
            "usage" not in chunk for chunk in events(post(client, stream=True, stream_options=options))
        )
    assert post(client, stream_options={"include_usage": True}).json()["usage"]["total_tokens"] > 0


def test_every_choice_has_its_role_and_reason(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="", messages=HELLO, n=3)
    assert [c.index for c in whole.choices] == [0, 1, 2]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3 * len(b"You said: hello ")
    chunks = events(post(client, stream=True, n=2))
    for index in (0, 1):
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert [c["delta"].get("role") for c in own] == ["assistant"] + [None] * (len(own) - 1)
        assert [c["finish_reason"] for c in own if c["finish_reason"]] == ["stop"]


def test_nulls_and_unknown_fields_are_accepted_everywhere(client: openai.OpenAI) -> None:
    names = """
        temperature top_p stop presence_penalty frequency_penalty tools tool_choice response_format seed n
        logprobs top_logprobs stream stream_options max_tokens max_completion_tokens logit_bias user functions
        parallel_tool_calls modalities reasoning_effort chat_template_kwargs top_k min_p repetition_penalty
        ignore_eos model
    """
    null = dict.fromkeys(names.split())
    assert post(client, **null).json()["choices"]
    unknown = {
        "cache_prompt": True,
        "service_tier": "fast",
        "verbosity": "low",
        "store": False,
        "x": {"y": []},
    }
    assert post(client, **unknown, reasoning_effort="low", user="me", metadata={"a": "b"}).status_code == 200


@pytest.mark.parametrize(
    "content",
    ["hello", [{"type": "text", "text": "hello"}], [{"type": "text", "text": "hello", "extra": None}]],
)
def test_content_may_be_a_string_or_parts(client: openai.OpenAI, content: Any) -> None:
    answer = post(client, messages=[user(content)]).json()
    assert answer["choices"][0]["message"]["content"] == "You said: hello"


def test_all_roles_are_understood(client: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": ""},
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": "a", "name": "me"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": None},
        {"role": "function", "name": "f", "content": None},
        {"role": "assistant", "content": "so"},
    ]
    answer = post(client, messages=messages).json()
    assert answer["choices"][0]["message"]["content"] == "You said: so"
    prompt = "system: be brief\nuser: a\nuser: b\nassistant: \ntool: 42\nassistant: no\ntool: \nassistant: so"
    assert answer["usage"]["prompt_tokens"] == len(prompt)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": ""}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [user([{"type": "text"}])]}, "messages.0.content.0.text"),
        ({"messages": [user(["x"])]}, "messages.0.content.0"),
        ({"messages": [user(5)]}, "messages.0.content"),
        (
            {"messages": [user([{"type": "input_audio", "input_audio": {}}])]},
            "messages.0.content.0.input_audio",
        ),
        ({"messages": [user([{"type": "file", "file": {}}])]}, "messages.0.content.0.file"),
        ({"messages": [user([{"type": "video"}])]}, "messages.0.content.0.type"),
        ({"messages": [user([image_part("data:x")])]}, "messages.0.content.0.image_url"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": "hello"}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": 5}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x.[key]"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"response_format": {"type": "poem"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: openai.OpenAI, body: dict[str, Any], param: str
) -> None:
    assert refused(client, **body)["param"] == param


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"null", b'{"messages": [' + b"[" * 100_000])
def test_bodies_that_are_no_json_object_are_refused(client: openai.OpenAI, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{client.base_url}chat/completions", content=content, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_both_names_of_the_limit_hold_and_the_stricter_wins(client: openai.OpenAI) -> None:
    for limits in (
        {"max_tokens": 3},
        {"max_completion_tokens": 3},
        {"max_tokens": 9, "max_completion_tokens": 3},
    ):
        choice = post(client, **limits).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("You", "length")


def test_what_is_too_long_for_the_context_is_refused_with_openais_code(client: openai.OpenAI) -> None:
    for body in ({"messages": [user("x" * CONTEXT_LENGTH)]}, {"max_tokens": CONTEXT_LENGTH}):
        error = refused(client, **body)
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("said", "You "),
        (["hell"], "You said: "),
        (["zzz", "u s"], "Yo"),
        ("Y", ""),
        ([""], "You said: hello"),
    ],
)
def test_stops_end_the_answer_and_are_not_in_it(client: openai.OpenAI, stop: Any, text: str) -> None:
    choice = post(client, stop=stop).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
    deltas = [
        c["choices"][0]["delta"].get("content", "") for c in events(post(client, stop=stop, stream=True))
    ]
    assert "".join(deltas) == text


@pytest.mark.parametrize("count", [0, 5, 20])
def test_log_probabilities_have_openais_shape_and_cover_the_text(client: openai.OpenAI, count: int) -> None:
    answer = client.chat.completions.create(
        model="", messages=[user("é🙂")], logprobs=True, top_logprobs=count, stop="🙂x"
    )
    (choice,) = answer.choices
    assert choice.logprobs is not None
    told = choice.logprobs.content or []
    assert all(len(one.top_logprobs) == count for one in told)
    whole = b"".join(bytes(one.bytes or []) for one in told).decode()
    assert whole == choice.message.content == "You said: é🙂"
    stream = client.chat.completions.create(
        model="", messages=[user("é🙂")], logprobs=True, top_logprobs=count, stream=True
    )
    streamed = b""
    for chunk in stream:
        if logprobs := chunk.choices[0].logprobs:
            streamed += b"".join(bytes(one.bytes or []) for one in logprobs.content or [])
    assert streamed.decode() == whole


def test_without_asking_there_are_no_log_probabilities(client: openai.OpenAI) -> None:
    assert post(client).json()["choices"][0]["logprobs"] is None


def test_the_clients_own_accumulator_is_content(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="", messages=HELLO, stream_options={"include_usage": True}
    ) as s:
        s.until_done()
        answer = s.get_final_completion()
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "You said: hello"
    assert answer.usage is not None


def test_a_full_queue_is_429_with_advice(client_for: Make) -> None:
    client = client_for(fake_engine(max_queued=1))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="", messages=HELLO, n=2)
    assert caught.value.response.headers["retry-after"] == "1"
    assert client.chat.completions.create(model="", messages=HELLO).choices


def test_a_failure_before_the_first_token_is_an_http_error(client_for: Make) -> None:
    gate = Gate()
    gate.fail_at = 0
    client = client_for(fake_engine(before_token=gate.before_token))
    for stream in (False, True):
        assert post(client, stream=stream).status_code == 500


def test_a_failure_later_is_an_error_event_and_never_a_clean_end(client_for: Make) -> None:
    gate = Gate()
    gate.fail_at = 5
    client = client_for(fake_engine(before_token=gate.before_token))
    body = {"messages": HELLO, "stream": True}
    seen = b""
    with httpx.stream("POST", f"{client.base_url}chat/completions", json=body) as answer:
        pieces = answer.iter_raw()
        while b'"error"' not in seen:
            seen += next(pieces)
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)
    last = seen.decode().split("\n\n")[-2]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "internal_error"
    assert b"[DONE]" not in seen
    with pytest.raises(openai.APIError, match="Unexpected"):
        list(client.chat.completions.create(model="", messages=HELLO, stream=True))


def test_what_was_used_is_told_once_per_request() -> None:
    usage = RecordingUsage()
    with run_server(chat_app(fake_engine(), usage=usage)) as url:
        for stream in (False, True):
            httpx.post(f"{url}/v1/chat/completions", json={"messages": HELLO, "stream": stream, "n": 2})
    assert usage.tokens == [(11, 32)] * 2
