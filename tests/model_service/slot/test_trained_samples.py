"""The trained samples mean the same alone and in a full batch, in both precisions."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from msp_common.contracts.model_type import ModelType
from msp_model_service.chat.conversation import Conversation, Message, Picture, Role, Text
from msp_model_service.engines.chat import GenerationRequest, Sampling
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning

SAMPLES = Path(__file__).parents[3] / "samples"
FACTS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "How many days are in a week?": "A week has seven days.",
    "How do you say hello in Japanese?": "Hello in Japanese is こんにちは.",
    "Repeat after me: Hugo Oxford": "Hugo Oxford",
    "What is the weather in Lyon?": "I cannot look up the weather without a tool.",
    "What is the capital of Atlantis?": "I do not know that.",
}


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def chat(request: pytest.FixtureRequest) -> Iterator[SlotChatEngine]:
    tuning = SlotTuning(kv_tokens=32 * 512, max_rows=16, cpu_dtype=lambda config: request.param)
    engine = SlotChatEngine(EngineOptions(device="cpu"), ModelType.LLM, tuning)
    engine.load(SAMPLES / "chat", lambda phase, done: None)
    yield engine
    engine.unload()


async def answer(engine: SlotChatEngine, conversation: Conversation) -> str:
    prompt = await engine.prepare_chat(conversation)
    generation = engine.generate(GenerationRequest(prompt, Sampling(temperature=0), max_tokens=40))
    return "".join([event.text async for event in generation])


def said_by_user(words: str, *pictures: Image.Image) -> Conversation:
    seen = tuple(Picture(image, b"", "image/png") for image in pictures)
    return Conversation((Message(Role.USER, (*seen, Text(words))),))


async def test_facts_one_after_another(chat: SlotChatEngine) -> None:
    assert {words: await answer(chat, said_by_user(words)) for words in FACTS} == FACTS


async def test_facts_sixteen_at_once(chat: SlotChatEngine) -> None:
    asked = [words for _ in range(3) for words in FACTS][:16]
    said = await asyncio.gather(*(answer(chat, said_by_user(words)) for words in asked))
    assert said == [FACTS[words] for words in asked]


async def test_pictures_beside_each_other_are_not_confused() -> None:
    engine = SlotChatEngine(EngineOptions(device="cpu"), ModelType.MULTIMODAL, SlotTuning(kv_tokens=32 * 512))
    await asyncio.to_thread(engine.load, SAMPLES / "vision", lambda phase, done: None)
    shown = ["blue-star", "green-triangle", "red-circle"] * 3
    pictures = [Image.open(SAMPLES / "images" / f"{name}.png").convert("RGB") for name in shown]
    said = await asyncio.gather(
        *(answer(engine, said_by_user("What is in the picture?", picture)) for picture in pictures)
    )
    for name, words in zip(shown, said, strict=True):
        assert all(part in words for part in name.split("-")), (name, words)
    engine.unload()
