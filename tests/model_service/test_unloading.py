"""After an engine is unloaded its weights, cache and threads are gone, and the next load works."""

import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msp_common.contracts.model_type import ModelType
from msp_model_service.chat.answer_forms import JsonForm
from msp_model_service.engines.catalogue import EngineName, engine_maker
from msp_model_service.engines.engine_life import EngineLife
from msp_model_service.engines.lifecycle import EngineOptions, Quantization
from msp_model_service.engines.transcriber import TranscriptionRequest
from support import chat_talk

SAMPLES = Path(__file__).parents[2] / "samples"
ENDS_WITHIN_S = 20
NOT_OURS = ("asyncio", "uvloop", "tqdm_monitor")
"""Threads of the process: the event loop's for what blocks, and one that tqdm starts once."""
Use = Callable[[Any], Awaitable[None]]


def quiet(phase: str, done: float | None) -> None:
    pass


async def a_chat(engine: Any) -> None:
    """With a grammar, whose threads and tables must go as well."""
    prompt = await engine.prepare_chat(chat_talk.talk("How many days are in a week?"))
    assert chat_talk.text(await chat_talk.events(engine, prompt, max_tokens=20)) == "A week has seven days."
    (grammar,) = await prompt.forms.grammars(JsonForm({"type": "integer"}, "response_format"), prompt, 1)
    assert chat_talk.ids(await chat_talk.events(engine, prompt, max_tokens=5, grammar=grammar))


async def an_embedding(engine: Any) -> None:
    assert (await engine.embed([[5, 6, 7]])).shape[0] == 1


async def a_transcript(engine: Any) -> None:
    async for _ in engine.transcribe(TranscriptionRequest(np.zeros(16_000, dtype=np.float32))):
        pass


def networks_and_tensors() -> Iterator[Any]:
    """All that are alive, but for small tensors, and networks without weights: modules keep some of these."""
    for one in gc.get_objects():
        kind = type(one)  # isinstance would ask objects of others for their class, and some warn then
        large = one.numel() >= 4096 if issubclass(kind, torch.Tensor) else False
        if large or (issubclass(kind, torch.nn.Module) and next(one.parameters(), None) is not None):
            yield one


@pytest.mark.parametrize(
    ("name", "type", "folder", "quantization", "use"),
    [
        ("slot", ModelType.LLM, "chat", "none", a_chat),
        ("slot", ModelType.LLM, "chat", "bnb-4bit", a_chat),
        ("generate", ModelType.LLM, "chat", "none", a_chat),
        ("auto", ModelType.EMBEDDING, "embedding", "none", an_embedding),
        ("auto", ModelType.TRANSCRIPTION, "whisper", "none", a_transcript),
    ],
    ids=["slot", "slot-4bit", "generate", "embedding", "transcription"],
)
async def test_unloading_frees_everything_and_loading_works_again(
    name: EngineName, type: ModelType, folder: str, quantization: Quantization, use: Use
) -> None:
    options = EngineOptions(device="cpu", quantization=quantization, kv_memory_fraction=0.01)
    life = EngineLife(engine_maker(name, type, options))
    gc.collect()
    before, threads_before = {id(one) for one in networks_and_tensors()}, set(threading.enumerate())

    for _ in range(2):
        engine = life.load(SAMPLES / folder, quiet)
        await use(engine)
        ours = [weakref.ref(one) for one in networks_and_tensors() if id(one) not in before]
        assert len(ours) > 20
        its_threads = set(threading.enumerate()) - threads_before
        assert [thread for thread in its_threads if not thread.name.startswith(NOT_OURS)]
        whole = weakref.ref(engine)
        del engine
        life.unload()
        for thread in its_threads:
            if not thread.name.startswith(NOT_OURS):
                thread.join(ENDS_WITHIN_S)
                assert not thread.is_alive(), thread.name
        assert whole() is None
        assert [one for ref in ours if (one := ref()) is not None] == []
