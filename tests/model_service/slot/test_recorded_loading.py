"""The self-test runs with recorded steps; where these do not work, the engine serves without and says so."""

import asyncio
from pathlib import Path

import pytest
import torch

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.chat import ChatEngine, GenerationRequest, Sampling
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.auto_chat import AutoChatEngine
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning
from msp_model_service.engines.slot.step_recorder import recorder_for
from support import tiny_models
from support.step_recorders import Forgetful, Refusing, Rerunning, Taping

OPTIONS = EngineOptions(device="cpu")


def engine_with(recorder: Rerunning | None) -> AutoChatEngine:
    """As where a GPU is: on a CPU, nothing is recorded."""
    engine = AutoChatEngine(OPTIONS, ModelType.LLM)
    tuning = SlotTuning(kv_tokens=4096, recorder=lambda device: recorder)
    engine._engine = SlotChatEngine(OPTIONS, ModelType.LLM, tuning)
    return engine


async def says(engine: ChatEngine, words: str) -> list[int]:
    prompt = await engine.prepare_text(words)
    generation = engine.generate(GenerationRequest(prompt, Sampling(temperature=0), max_tokens=8))
    return [token_id async for event in generation for token_id in event.token_ids]


async def served(folder: Path, recorder: Rerunning | None) -> tuple[str | None, str | None, list[list[int]]]:
    """The engine's name, its note, and what it says to three at once."""
    engine = engine_with(recorder)
    await asyncio.to_thread(engine.load, folder, lambda phase, done: None)
    able = engine.capabilities()
    said = await asyncio.gather(*(says(engine, words) for words in ("the quick", "a fox", "over the lazy")))
    engine.unload()
    return able.engine, able.engine_note, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen2(tmp_path_factory.mktemp("model"))


async def test_the_self_test_repeats_recorded_steps_and_so_does_the_engine(folder: Path) -> None:
    tape = Taping()
    engine = engine_with(tape)
    await asyncio.to_thread(engine.load, folder, lambda phase, done: None)
    tested = tape.repeated
    assert tested > 0
    said = await says(engine, "the quick")
    assert tape.forgotten == 1, "the self-test's cache is gone, and its steps were repeated"
    assert tape.repeated > tested
    assert engine.capabilities().engine_note is None
    engine.unload()
    assert said == (await served(folder, None))[2][0]


async def test_steps_that_say_something_else_are_given_up_and_the_engine_is_not(folder: Path) -> None:
    broken = Forgetful()
    engine, note, said = await served(folder, broken)
    assert broken.repeated > 0
    assert engine == "slot"
    assert (note or "").startswith("decode steps run without CUDA graphs: the self-test failed with them: ")
    assert "differ" in (note or "")
    assert said == (await served(folder, None))[2]


async def test_steps_that_cannot_be_recorded_are_told_in_the_note(folder: Path) -> None:
    error = torch.OutOfMemoryError("no memory for a graph\nFor debugging consider this and that.")
    engine, note, said = await served(folder, Refusing(error=error))
    assert (engine, note) == (
        "slot",
        "decode steps run without CUDA graphs: recording one failed: OutOfMemoryError: no memory for a graph",
    )
    assert said == (await served(folder, None))[2]


async def test_without_a_recorder_there_is_nothing_to_tell(folder: Path) -> None:
    assert (await served(folder, None))[:2] == ("slot", None)


def test_a_cpu_records_nothing() -> None:
    assert recorder_for(torch.device("cpu")) is None


def test_on_a_gpu_too_there_is_a_recorder_only_for_who_wants_it() -> None:
    assert SlotTuning.of(EngineOptions()).recorder(torch.device("cuda")) is None
    assert SlotTuning.of(EngineOptions(cuda_graphs="auto")).recorder is recorder_for
