"""Responses that fail or whose client leaves: no clean end, and nothing goes on for nobody."""

import time
from typing import Any

import httpx
import openai
import pytest

from support.chat_fakes import Gate, RecordingUsage, chat_app, fake_engine
from support.responses_talk import PATH, events_of, refusal, types
from support.servers import run_server

LEAVES_SOON = httpx.Timeout(5, read=0.05)


def until(true: Any) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True])
def test_the_engine_stops_when_the_client_leaves(stream: bool) -> None:
    gate, usage = Gate(closed=True), RecordingUsage()
    engine = fake_engine(before_token=gate.before_token)
    with run_server(chat_app(engine, usage=usage)) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url + PATH, json={"input": "hello", "stream": stream}, timeout=LEAVES_SOON)
        until(lambda: engine.load_now().in_flight == 0)
        asked = gate.asked
        gate.open()
        assert httpx.post(url + PATH, json={"input": "hello", "max_output_tokens": 3}).status_code == 200
        assert gate.asked == asked + 3
    assert len(usage.tokens) == 2


def test_the_engine_stops_when_the_client_leaves_in_the_middle_of_a_stream() -> None:
    usage = RecordingUsage()
    engine = fake_engine()
    body = {"input": "hello", "stream": True, "ignore_eos": True}
    with run_server(chat_app(engine, usage=usage)) as url:
        with httpx.stream("POST", url + PATH, json=body) as answer:
            next(answer.iter_raw())
        until(lambda: engine.load_now().in_flight == 0)
        until(lambda: usage.tokens)
    assert 0 < usage.tokens[0][1] < 8000


@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_before_the_first_word_is_an_error_with_a_status(stream: bool) -> None:
    gate = Gate()
    gate.fail_at = 0
    with run_server(chat_app(fake_engine(before_token=gate.before_token))) as url:
        status, error = refusal(url, input="hello", stream=stream)
    assert (status, error["code"]) == (500, "internal_error")


def test_a_full_queue_is_429_also_for_streams() -> None:
    with run_server(chat_app(fake_engine(max_queued=0))) as url:
        answer = httpx.post(url + PATH, json={"input": "hello", "stream": True})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"


def test_a_stream_that_breaks_says_failed_and_never_ends_well() -> None:
    gate = Gate()
    gate.fail_at = 5
    received: list[bytes] = []
    with run_server(chat_app(fake_engine(before_token=gate.before_token))) as url:
        with (
            httpx.stream("POST", url + PATH, json={"input": "hello", "stream": True}) as answer,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            received.extend(answer.iter_raw())
        *frames, rest = b"".join(received).decode().split("\n\n")
        assert rest == ""
        events = events_of(frames)
        assert types(events)[-2:] == ["output_text.delta", "failed"]
        failed = events[-1].response
        assert (failed.status, failed.error.code) == ("failed", "server_error")
        assert failed.output[0].content[0].text == "You s"
        assert "as told" not in failed.error.message
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client,
            pytest.raises(openai.APIConnectionError),
        ):
            list(client.responses.create(model="org/model", input="hello", stream=True))


def test_tokens_are_counted() -> None:
    usage = RecordingUsage()
    with run_server(chat_app(fake_engine(), usage=usage)) as url:
        told = httpx.post(url + PATH, json={"input": "hello"}).json()["usage"]
    assert usage.tokens == [(told["input_tokens"], told["output_tokens"])]
