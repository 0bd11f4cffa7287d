"""Bodies as well-known clients send them, word for word."""

import json
from typing import Any

import httpx
import openai
import pytest

from msp_common.contracts.model_type import ModelType
from support.chat_fakes import data_uri, image_bytes

PLACEHOLDER = data_uri(image_bytes((16, 16), "white", "JPEG"), "image/png")
SYSTEM = {"role": "system", "content": ""}
"""Chat UI's first message, always, and empty where there is no preprompt."""


def post(client: openai.OpenAI, body: dict[str, Any]) -> str:
    """The text of the answer, streamed or not."""
    answer = httpx.post(f"{client.base_url}chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        whole: str = answer.json()["choices"][0]["message"]["content"]
        return whole
    frames = [frame.removeprefix("data: ") for frame in answer.text.split("\n\n") if frame]
    assert frames.pop() == "[DONE]"
    choices = [choice for frame in frames for choice in json.loads(frame)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_chat_ui_0_8_with_words(client: openai.OpenAI) -> None:
    body = {
        "model": "org/model",
        "messages": [SYSTEM, {"role": "user", "content": "hello"}],
        "stream": True,
        "max_tokens": 1024,
        "stop": ["</s>"],
        "temperature": 0.1,
        "top_p": 0.95,
        "frequency_penalty": 1.2,
    }
    assert post(client, body) == "You said: hello"


def test_chat_ui_0_8_with_images(client_for: Any) -> None:
    sees: openai.OpenAI = client_for(type=ModelType.MULTIMODAL)
    shown = data_uri(image_bytes((30, 20), form="JPEG"), "image/jpeg")
    messages = [
        {"role": "system", "content": f"![]({PLACEHOLDER})}})"},
        {"role": "user", "content": f"what is this?![]({shown})}})"},
        {"role": "assistant", "content": f"a square![]({PLACEHOLDER})}})"},
        {"role": "user", "content": f"sure?![]({PLACEHOLDER})}})"},
    ]
    answer = post(sees, {"model": "", "messages": messages, "stream": True, "max_tokens": 1024})
    assert answer == "You said: sure? I see 30 x 20 pixels."


def test_chat_ui_0_8_asks_for_a_title_after_many_turns_without_a_limit(client: openai.OpenAI) -> None:
    turns = [{"role": role, "content": "x"} for _ in range(7) for role in ("user", "assistant")]
    last = {"role": "user", "content": "title?"}
    system = {"role": "system", "content": "You are a summarization AI."}
    body = {"model": "", "messages": [system, *turns, last], "stream": True}
    assert post(client, body) == "You said: title?"


@pytest.mark.parametrize("options", [None, {"include_usage": True}])
def test_open_webui(client: openai.OpenAI, options: Any) -> None:
    body = {
        "model": "org/model",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": options is not None,
        **({"stream_options": options} if options else {"max_tokens": 1000}),
        "metadata": {"task": "title_generation"},
    }
    assert post(client, body) == "You said: hello"


def test_langchain(client: openai.OpenAI) -> None:
    body = {
        "model": "org/model",
        "messages": [
            {"content": "be brief", "role": "developer"},
            {"content": "hello", "role": "user"},
        ],
        "max_completion_tokens": 6,
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": 1,
        "parallel_tool_calls": None,
        "reasoning_effort": "low",
    }
    assert post(client, body) == "You sa"


def test_what_newer_clients_add_is_accepted(client: openai.OpenAI) -> None:
    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "moderation": {"model": "x"},
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "u",
        "service_tier": "fast",
        "verbosity": "low",
        "metadata": {"a": "b"},
        "store": True,
        "prediction": {"type": "content", "content": "x"},
        "modalities": ["text"],
        "audio": None,
        "web_search_options": {},
    }
    assert post(client, body) == "You said: hello"
