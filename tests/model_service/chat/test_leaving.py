"""Clients that leave: the engine stops within a step, streamed or not."""

import time
from typing import Any

import httpx
import pytest

from support.chat_fakes import Gate, RecordingUsage, chat_app, fake_engine, user
from support.servers import run_server

PATIENCE_S = 5.0
LEAVES_SOON = httpx.Timeout(5, read=0.05)


def until(true: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def body(stream: bool, **fields: Any) -> dict[str, Any]:
    return {"messages": [user("hello")], "stream": stream, "ignore_eos": True, **fields}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_the_engine_stops_when_the_client_leaves(stream: bool, n: int) -> None:
    gate, usage = Gate(closed=True), RecordingUsage()
    engine = fake_engine(before_token=gate.before_token)
    with run_server(chat_app(engine, usage=usage)) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=body(stream, n=n), timeout=LEAVES_SOON)
        until(lambda: engine.load_now().in_flight == 0)
        asked = gate.asked
        gate.open()
        assert httpx.post(f"{url}/v1/chat/completions", json=body(False, max_tokens=3)).status_code == 200
        assert gate.asked == asked + 3
    assert len(usage.tokens) == 2


def test_the_engine_stops_when_the_client_leaves_in_the_middle_of_a_stream() -> None:
    gate, usage = Gate(), RecordingUsage()
    engine = fake_engine(before_token=gate.before_token)
    with run_server(chat_app(engine, usage=usage)) as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body(True)) as answer:
            next(answer.iter_raw())
        until(lambda: engine.load_now().in_flight == 0)
        until(lambda: usage.tokens)
    prompt, completion = usage.tokens[0]
    assert prompt == 11
    assert 0 < completion < 8000


def test_fifty_who_leave_free_their_places() -> None:
    gate = Gate(closed=True)
    engine = fake_engine(max_queued=5, before_token=gate.before_token)
    with run_server(chat_app(engine)) as url:
        for i in range(50):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{url}/v1/completions", json={"prompt": "a", "stream": i % 2 == 0}, timeout=LEAVES_SOON
                )
            until(lambda: engine.load_now().in_flight == 0)
        gate.open()
        assert httpx.post(f"{url}/v1/completions", json={"prompt": "a"}).status_code == 200
