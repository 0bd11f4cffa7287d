"""Asking any chat engine, and what it answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from PIL import Image

from msp_model_service.chat.conversation import Conversation, Message, Picture, Role, Text
from msp_model_service.engines.chat import (
    ChatEngine,
    Generation,
    GenerationRequest,
    PreparedPrompt,
    Sampling,
    TokenEvent,
)

GREEDY = Sampling(temperature=0)


def talk(words: str, *pictures: Image.Image) -> Conversation:
    parts: tuple[Text | Picture, ...] = (
        *(Picture(image, b"", "image/png") for image in pictures),
        Text(words),
    )
    return Conversation((Message(Role.USER, parts),))


@asynccontextmanager
async def reading(generation: Generation) -> AsyncIterator[Generation]:
    try:
        yield generation
    finally:
        await generation.aclose()


async def events(
    engine: ChatEngine, prompt: PreparedPrompt, sampling: Sampling = GREEDY, **fields: Any
) -> list[TokenEvent]:
    async with reading(engine.generate(GenerationRequest(prompt, sampling, **fields))) as generation:
        return [event async for event in generation]


def ids(made: list[TokenEvent]) -> list[int]:
    return [token_id for event in made for token_id in event.token_ids]


def text(made: list[TokenEvent]) -> str:
    return "".join(event.text for event in made)
