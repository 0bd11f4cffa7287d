"""The server's stream, however its bytes are cut, and its errors, whatever dialect they speak."""

import json

import pytest

from msp_common.errors import ApiError, ContextTooLong, InvalidRequest, UpstreamFailed
from msp_model_service.engines.external import answer_events
from msp_model_service.engines.external.answer_events import AnswerEvents
from msp_model_service.engines.external.answer_fields import read_answer
from msp_model_service.engines.external.error_translation import Said, read_error, translated


def chunk(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    body = {"model": "theirs", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "x": 1.0}
    return f"data: {json.dumps(body)}\r\n\r\n".encode()


STREAM = (
    b": ping\n\n"
    + b"event: message\nid: 7\n"
    + chunk("a\u00e9")
    + chunk("b")
    + chunk(None, "stop")
    + b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'
    + b"data: [DONE]\n\nafter the end\n\n"
)


def reader(*, wants_usage: bool = False, ours: str = "ours") -> AnswerEvents:
    return AnswerEvents(model_name="theirs", model_id=ours, wants_usage=wants_usage)


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_however_it_is_cut_the_client_gets_the_same(size: int) -> None:
    events = reader()
    passed = [e for i in range(0, len(STREAM), size) for e in events.feed(STREAM[i : i + size])]
    text = b"".join(e.frame for e in passed).decode()
    assert text.startswith(': ping\n\nevent: message\nid: 7\ndata: {"model":"ours"')
    assert text.endswith("data: [DONE]\n\n")
    assert "usage" not in text
    assert sum(e.tokens for e in passed) == 2
    assert [(e.usage.prompt_tokens, e.usage.completion_tokens) for e in passed if e.usage] == [(3, 2)]
    assert events.end() == []


def test_done_before_any_finish_reason_is_a_failure() -> None:
    events = reader()
    events.feed(chunk("a"))
    with pytest.raises(UpstreamFailed, match="ended its answer early"):
        events.feed(b"data: [DONE]\n\n")


def test_with_the_same_name_an_event_stays_as_it_is() -> None:
    [event] = reader(ours="theirs").feed(chunk("a"))
    assert event.frame == chunk("a")


@pytest.mark.parametrize("stream", [b"", chunk("a"), chunk(None, "stop") + b"data: {"])
def test_an_end_without_a_finish_reason_or_within_an_event_is_a_failure(stream: bytes) -> None:
    events = reader()
    events.feed(stream)
    with pytest.raises(UpstreamFailed, match="ended its answer early"):
        events.end()


def test_an_event_without_an_end_does_not_fill_the_memory() -> None:
    events = reader()
    assert events.feed(b"x" * answer_events.MAX_EVENT_BYTES) == []
    with pytest.raises(UpstreamFailed, match="without an end"):
        events.feed(b"x")


def test_thoughts_and_calls_of_tools_are_tokens_too_and_a_role_is_none() -> None:
    def tokens(delta: str) -> int:
        return sum(
            e.tokens for e in reader().feed(b'data: {"choices": [{"delta": %s}]}\n\n' % delta.encode())
        )

    assert tokens('{"role": "assistant", "content": ""}') == 0
    assert tokens('{"reasoning_content": "hm"}') == 1
    assert tokens('{"tool_calls": [{"index": 0}]}') == 1
    assert tokens('{"content": null, "tool_calls": []}') == 0


def test_events_of_a_shape_nobody_knows_pass() -> None:
    odd = b'data: {"choices": "none", "usage": 3}\n\n'
    assert [e.frame for e in reader().feed(odd)] == [odd]


def test_an_error_event_is_raised_with_the_status_in_it() -> None:
    with pytest.raises(InvalidRequest, match="bad ours"):
        reader().feed(b'data: {"error": {"message": "bad theirs", "code": 400}}\n\n')
    with pytest.raises(UpstreamFailed):
        reader().feed(b'data: {"error": "anything"}\n\n')


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"text"', b"\xff"])
def test_a_whole_answer_that_is_no_object_is_garbage(body: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="no JSON object"):
        read_answer(body, "theirs", "ours")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "m", "param": "p", "code": "c"}}', Said("m", "p", "c")),
        (b'{"error": {"message": "m", "code": 400, "param": null}}', Said("m")),
        (b'{"object": "error", "message": "m", "code": 400}', Said("m")),
        (b'{"error": "m"}', Said("m")),
        (b'{"detail": "m"}', Said("m")),
        (b'{"detail": [{"loc": ["body", "a", 0], "msg": "m"}]}', Said("m", "a.0")),
        (b"Internal Server Error", Said("Internal Server Error")),
        (b"[1, 2]", Said("[1, 2]")),
        (b"", Said("")),
        (b'{"error": [1]}', Said("[1]")),
    ],
)
def test_errors_are_read_in_every_dialect(body: bytes, said: Said) -> None:
    assert read_error(body) == said


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000",
        "the request exceeds the available context size (512 tokens), try increasing it",
        "Input is too long for the model",
    ],
)
def test_a_context_that_overflows_is_known_by_its_words(message: str) -> None:
    assert isinstance(translated(400, json.dumps({"error": message}).encode()), ContextTooLong)


def test_the_servers_path_of_the_model_is_not_told() -> None:
    error = translated(400, b"bad value for /secret/path", model_name="/secret/path", model_id="org/model")
    assert error.message == "bad value for org/model"


@pytest.mark.parametrize("status", [300, 401, 403, 404, 405, 500, 502, 599])
def test_what_no_client_can_mend_is_told_without_the_servers_words(status: int) -> None:
    error: ApiError = translated(status, b'{"error": "inner matter"}')
    assert error.status == 502
    assert "inner matter" not in error.message
    assert error.should_retry is False


def llama_cpp_python(told: str) -> bytes:
    """Its answer to a body that it refuses, as seen of version 0.3.36."""
    message = f'{told}\n\n  File "/site-packages/llama_cpp/server/app.py", line 376, in create\n    POST /v1'
    return json.dumps({"error": {"message": message, "type": "internal_server_error", "code": None}}).encode()


def test_a_clients_mistake_that_a_server_calls_its_own_is_the_clients() -> None:
    one = (
        "1 validation error:\n  {'type': 'float_parsing', 'loc': ('body', 'temperature'), "
        "'msg': 'Input should be a valid number', 'input': 'hot'}"
    )
    error: ApiError = translated(500, llama_cpp_python(one))
    assert (error.status, error.param) == (400, "temperature")
    assert error.message == "Invalid value for 'temperature': Input should be a valid number."
    quoted = one.replace("'Input should be a valid number'", "\"Input should be 'text'\"")
    assert translated(500, llama_cpp_python(quoted)).message.endswith(": Input should be 'text'.")


def test_of_several_forms_that_a_value_might_have_had_none_is_told() -> None:
    several = (
        "2 validation errors:\n  {'type': 'literal_error', 'loc': ('body', 'messages', 0, 'SystemMessage', "
        "'role'), 'msg': \"Input should be 'system'\", 'input': 'user'}\n  {'type': 'missing', "
        "'loc': ('body', 'messages', 0, 'UserMessage', 'content'), 'msg': 'Field required', 'input': {}}"
    )
    error: ApiError = translated(500, llama_cpp_python(several))
    assert (error.status, error.message) == (400, "Invalid value for 'messages.0'.")
