"""Images in rows beside words: as the plain engine answers them, remembered by their pixels."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.slot_chat import SlotChatEngine
from support import tiny_models
from support.chat_talk import events, ids, talk
from support.slot_talk import engine_for


@pytest.fixture(scope="module")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def llava(llava_folder: Path) -> Iterator[SlotChatEngine]:
    engine = engine_for(llava_folder, ModelType.MULTIMODAL, prefill_tokens=16)
    yield engine
    engine.unload()


async def test_images_beside_words_are_answered_as_by_the_plain_engine(
    llava: SlotChatEngine, llava_folder: Path
) -> None:
    plain = GenerateChatEngine(EngineOptions(device="cpu"), ModelType.MULTIMODAL)
    plain.load(llava_folder, lambda phase, done: None)
    noise = [Image.effect_noise((40 + n, 40), 90).convert("RGB") for n in range(4)]
    talks = [
        talk("what?", noise[0]),
        talk("words only, " * 6),
        talk("what?", noise[1]),
        talk("both? " * 12, noise[2], noise[3]),
        talk("hello"),
        talk("what?", noise[0]),
    ]
    prompts = [await llava.prepare_chat(one) for one in talks]
    together = await asyncio.gather(
        *(events(llava, prompt, max_tokens=12, ignore_eos=True) for prompt in prompts)
    )
    for one, ours in zip(talks, together, strict=True):
        right = await events(plain, await plain.prepare_chat(one), max_tokens=12, ignore_eos=True)
        assert ids(ours) == ids(right)
        assert ours[-1].usage == right[-1].usage
    assert ids(together[0]) != ids(together[2])
    plain.unload()


async def test_an_images_beginning_is_reused_for_the_same_pixels_only(llava: SlotChatEngine) -> None:
    one, other = (Image.effect_noise((50, 50), 90).convert("RGB") for _ in range(2))
    read = []
    for picture in (one, other, one):
        before = llava.tally().read
        await events(llava, await llava.prepare_chat(talk("look", picture)), max_tokens=2)
        read.append(llava.tally().read - before)
    assert read[2] == 1 < read[1] <= read[0]
