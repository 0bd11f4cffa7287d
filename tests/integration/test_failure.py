"""What dies or leaves costs nobody else anything."""

import os
import signal
import threading
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionMessageParam

from support.platform_processes import Platform, eventually
from support.sample_prompts import endless

FRANCE: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


def test_no_request_fails_after_a_replica_was_killed(platform: Platform, client: openai.OpenAI) -> None:
    platform.kill("llm-2")
    try:
        for _ in range(20):
            answer = client.chat.completions.create(model="samples/chat", messages=FRANCE, temperature=0)
            assert "Paris" in (answer.choices[0].message.content or "")
        suspect_or_worse = lambda: platform.worker_status(8001) in ("suspect", "unhealthy")  # noqa: E731
        eventually("the killed replica is suspect", suspect_or_worse, timeout_s=5)
        eventually(
            "the killed replica is unhealthy",
            lambda: platform.worker_status(8001) == "unhealthy",
            timeout_s=12,
        )
    finally:
        done = platform.msp("restart", "llm-2")
    assert done.returncode == 0, done.stdout + done.stderr
    eventually("the replica serves again", lambda: platform.worker_status(8001) == "ready", timeout_s=60)


def test_requests_go_on_while_the_service_registry_is_away(platform: Platform, client: openai.OpenAI) -> None:
    platform.kill("service-registry")
    try:
        for _ in range(5):
            client.chat.completions.create(model="samples/chat", messages=FRANCE, max_tokens=2)
    finally:
        done = platform.msp("restart", "service-registry")
    assert done.returncode == 0, done.stdout + done.stderr
    workers = (8000, 8001, 8002, 8003, 8004)
    eventually(
        "the workers are known again",
        lambda: all(platform.worker_status(port) == "ready" for port in workers),
        timeout_s=20,
    )


def in_flight(platform: Platform, port: int) -> float:
    """Requests that a worker's engine works on, by its own word."""
    metrics = httpx.get(f"{platform.url(port)}/metrics").text
    return next(
        float(line.split()[1]) for line in metrics.splitlines() if line.startswith("msp_worker_in_flight ")
    )


def test_a_client_that_leaves_stops_the_generation(platform: Platform) -> None:
    body: dict[str, Any] = {"model": "samples/chat", "messages": FRANCE, "stream": True, "max_tokens": 4000}
    body["logit_bias"] = endless("chat")
    with httpx.stream("POST", f"{platform.url(8080)}/v1/chat/completions", json=body, timeout=60) as answer:
        pieces = answer.iter_bytes()  # kept: the connection is closed with it
        next(pieces)
        assert in_flight(platform, 8000) + in_flight(platform, 8001) == 1
    eventually(
        "no replica is working",
        lambda: in_flight(platform, 8000) + in_flight(platform, 8001) == 0,
        timeout_s=5,
    )


def test_a_worker_killed_mid_stream_ends_in_an_error(platform: Platform, client: openai.OpenAI) -> None:
    started, failures = threading.Event(), []

    def read() -> None:
        try:
            stream = client.chat.completions.create(
                model="samples/vision",
                messages=[{"role": "user", "content": "Hello!"}],
                stream=True,
                max_tokens=1500,
                logit_bias=endless("vision"),
            )
            for _ in stream:
                started.set()
        except (openai.APIError, httpx.HTTPError) as error:
            failures.append(error)
        finally:
            started.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(30)
    os.kill(platform.pid("multimodal"), signal.SIGKILL)
    reader.join(30)
    done = platform.msp("restart", "multimodal")
    assert done.returncode == 0, done.stdout + done.stderr
    assert failures, "the stream ended as if it were complete"
