"""Weights in few bits, the memory for keys and values, and unloading, on a real GPU."""

import asyncio
from pathlib import Path

import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.catalogue import engine_maker
from msp_model_service.engines.chat import ChatEngine
from msp_model_service.engines.engine_life import EngineLife
from msp_model_service.engines.lifecycle import EngineOptions, Quantization
from support import chat_talk

pytestmark = pytest.mark.gpu

CHAT_SAMPLE = Path(__file__).resolve().parents[2] / "samples/chat"
FACTS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "How many days are in a week?": "A week has seven days.",
}


@pytest.fixture(autouse=True)
def gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")


def quiet(phase: str, done: float | None) -> None:
    pass


async def answer(engine: ChatEngine, words: str) -> str:
    prompt = await engine.prepare_chat(chat_talk.talk(words))
    return chat_talk.text(await chat_talk.events(engine, prompt, max_tokens=40))


@pytest.mark.parametrize("kind", ["none", "bnb-8bit", "bnb-4bit"])
async def test_facts_hold_on_the_gpu_alone_and_together_and_unloading_frees_it(kind: Quantization) -> None:
    import torch

    options = EngineOptions(device="cuda", quantization=kind, kv_memory_fraction=0.01)
    life = EngineLife(engine_maker("slot", ModelType.LLM, options))
    before = torch.cuda.memory_allocated()
    engine = life.load(CHAT_SAMPLE, quiet)
    assert engine.capabilities().quantization == (None if kind == "none" else kind)
    assert {words: await answer(engine, words) for words in FACTS} == FACTS  # type: ignore[arg-type]
    asked = list(FACTS) * 8
    said = await asyncio.gather(*(answer(engine, words) for words in asked))  # type: ignore[arg-type]
    assert said == [FACTS[words] for words in asked]
    assert torch.cuda.memory_allocated() > before
    del engine
    life.unload()
    # Workspaces of cuBLAS stay with the process.
    assert torch.cuda.memory_allocated() - before < 64 * 2**20


def test_the_memory_for_keys_and_values_is_a_share_of_what_the_fraction_leaves() -> None:
    import torch

    from msp_model_service.engines.slot.kv_budget import kv_bytes

    device = torch.device("cuda")
    free, total = torch.cuda.mem_get_info(device)
    half = kv_bytes(device, 0.9, share=0.5)
    assert 0 < half <= 0.5 * min(free, 0.9 * total) * 1.01
    assert kv_bytes(device, 0.9, share=0.25) == pytest.approx(half / 2, rel=0.05)
    assert kv_bytes(device, 0.1, share=0.5) <= 0.05 * total
    # What each worker has of a GPU, its fraction says already.
    assert kv_bytes(device, 0.9, share=0.5, workers_per_host=4) == pytest.approx(half, rel=0.05)
