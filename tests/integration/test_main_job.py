"""Real questions of all four types, asked with the official client, through the gateway."""

import base64
import json

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from support.platform_processes import REPOSITORY, Platform

FRANCE: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
SAMPLES = REPOSITORY / "samples"


def picture(name: str) -> str:
    encoded = base64.b64encode((SAMPLES / "images" / name).read_bytes()).decode()
    return f"data:image/png;base64,{encoded}"


def test_a_request_without_a_model_is_answered_by_the_chat_model(platform: Platform) -> None:
    answer = httpx.post(
        f"{platform.url(8080)}/v1/chat/completions", json={"messages": FRANCE, "stream": False}, timeout=60
    )
    assert answer.status_code == 200
    assert answer.json()["model"] == "samples/chat"
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="samples/chat", messages=FRANCE, temperature=0)
    pieces = list(
        client.chat.completions.create(
            model="samples/chat",
            messages=FRANCE,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len(pieces) > 3
    text = "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage == whole.usage


def test_a_conversation_is_remembered(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="samples/chat",
        messages=[
            {"role": "user", "content": "My name is Marlo."},
            {"role": "assistant", "content": "Nice to meet you, Marlo!"},
            {"role": "user", "content": "What is my name?"},
        ],
        temperature=0,
    )
    assert "Marlo" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize(
    ("name", "said"),
    [("red-circle.png", "a red circle."), ("blue-star.png", "a blue star.")],
)
def test_a_picture_is_described(client: openai.OpenAI, name: str, said: str) -> None:
    answer = client.chat.completions.create(
        model="samples/vision",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is in the picture?"},
                    {"type": "image_url", "image_url": {"url": picture(name)}},
                ],
            }
        ],
        temperature=0,
    )
    assert (answer.choices[0].message.content or "").lower() == said


@pytest.mark.parametrize("clip", ["three-one-four", "five-nine-eight", "seven"])
def test_a_spoken_wav_is_transcribed(client: openai.OpenAI, clip: str) -> None:
    text = client.audio.transcriptions.create(
        model="samples/whisper", file=SAMPLES / "audio" / f"{clip}.wav"
    ).text
    assert text.split() == clip.split("-")


def test_similar_texts_are_nearer_than_dissimilar_ones(client: openai.OpenAI) -> None:
    texts = [
        "The striker scored a late goal.",
        "The goalkeeper saved a penalty in the match.",
        "Stir the soup and add some salt.",
    ]
    anchor, near, far = (
        d.embedding for d in client.embeddings.create(model="samples/embedding", input=texts).data
    )

    def similarity(other: list[float]) -> float:
        return sum(a * b for a, b in zip(anchor, other, strict=True))

    assert similarity(near) > similarity(far)


def test_legacy_completions_are_answered(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="samples/chat", prompt="Hello", max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 4


def test_all_models_are_listed_chat_first(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert listed[0].id == "samples/chat"
    assert {m.id for m in listed} == {
        "samples/chat",
        "samples/vision",
        "samples/embedding",
        "samples/whisper",
    }
    for model in listed:
        assert client.models.retrieve(model.id).id == model.id
    raw = httpx.get(f"{client.base_url}models").json()["data"]
    assert all(item["type"] for item in raw)
    assert not [item for item in raw if "description" in item and item["description"] is None]


def test_what_a_newcomer_looks_at_answers(platform: Platform) -> None:
    kinds = [s["kind"] for s in httpx.get(f"{platform.url(8080)}/services").json()["services"]]
    assert sorted(set(kinds)) == ["gateway", "registry", "service-registry", "worker"]
    assert kinds.count("worker") == 5
    stats = httpx.get(f"{platform.url(8080)}/gpu-stats").json()
    assert stats["gpus"] or stats["reason"]
    stored = httpx.get(f"{platform.url(8090)}/models").json()["models"]
    assert {m["id"] for m in stored} == {
        "samples/chat",
        "samples/embedding",
        "samples/vision",
        "samples/whisper",
    }
    assert httpx.get(f"{platform.url(8000)}/health").json()["status"] == "ok"
    for port in (8080, 8081, 8090, 8000, 8002, 8004):
        assert httpx.get(f"{platform.url(port)}/docs").status_code == 200
        assert "msp_" in httpx.get(f"{platform.url(port)}/metrics").text


def tool(name: str, description: str, **parameters: str) -> ChatCompletionToolParam:
    properties = {parameter: {"type": kind} for parameter, kind in parameters.items()}
    schema: dict[str, object] = {"type": "object", "properties": properties, "required": list(parameters)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


def test_the_fitting_tool_is_called_and_its_answer_used(client: openai.OpenAI) -> None:
    tools = [
        tool("get_time", "Get the time in a city", city="string"),
        tool("add", "Add two numbers", a="integer", b="integer"),
        tool("get_weather", "Get the weather for a city", city="string"),
    ]
    question: ChatCompletionMessageParam = {"role": "user", "content": "What is the weather in Lyon?"}
    first = client.chat.completions.create(
        model="samples/chat", messages=[question], tools=tools, temperature=0
    ).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.tool_calls is not None
    (call,) = first.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Lyon"})
    answer = client.chat.completions.create(
        model="samples/chat",
        messages=[
            question,
            {"role": "assistant", "tool_calls": [call.to_dict()]},  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"},
        ],
        tools=tools,
        temperature=0,
    )
    assert answer.choices[0].message.content == "The weather in Lyon is sunny, 21 degrees."
