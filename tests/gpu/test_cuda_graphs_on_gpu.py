"""CUDA graphs of the decode step on a real GPU: the same tokens as without, and how fast."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.chat import GenerationRequest, Sampling
from msp_model_service.engines.lifecycle import CudaGraphs, EngineOptions
from support import tiny_models
from support.architectures import SERVED

pytestmark = pytest.mark.gpu

ARCHITECTURES = ("Llama", "Qwen2", "Qwen3", "Phi", "Gemma", "GPTNeoX", "StableLm", "OPT", "Falcon", "Mixtral")
ROWS, TOKENS = 8, 200


@pytest.fixture(autouse=True)
def gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_graphs_say_what_plain_steps_say(name: str) -> None:
    """In float32, with rows that come and go, grow beyond a view, and change places."""
    import torch

    from msp_model_service.engines.slot.step_recorder import recorder_for
    from support.slot_models import Table, build, some_words

    def told(graphs: bool) -> tuple[list[list[int]], Any]:
        model, chance = build(name, SERVED[name]).to("cuda"), random.Random(name)
        table = Table(model, rows=6, recorder=recorder_for(torch.device("cuda")) if graphs else None)
        answers = []
        for length in (5, 17, 240, 40, 130, 90, 3, 250):
            answers.append(table.ask(some_words(chance, length), chance.randrange(10, 40))[1])
            table.step()
            table.step()
        table.finish()
        assert [one.error for one in answers] == [None] * len(answers)
        return [one.ids for one in answers], table.forward.recorded

    plain, _ = told(graphs=False)
    said, recorded = told(graphs=True)
    print(f"\n{name}: {recorded.repeated} steps repeated; {recorded.note or 'recorded'}")  # noqa: T201 - what one runs it for
    assert said == plain
    # A model that cannot be recorded is served all the same, and its note says why.
    assert recorded.repeated > 0 or recorded.note


def small_model(folder: Path) -> None:
    """Of the shape of Qwen2 0.5B, but for its vocabulary: launching its layers takes its time."""
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    files = tiny_models.tokenizer()
    config = Qwen2Config(
        vocab_size=len(files),
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=files.eos_token_id, pad_token_id=0)
    model.save_pretrained(folder)
    files.save_pretrained(folder)


async def speed(folder: Path, graphs: CudaGraphs) -> tuple[float, str | None]:
    """Tokens per second of eight answers at once, the second time they are asked for; and the note."""
    from msp_model_service.engines.slot.slot_chat import SlotChatEngine

    engine = SlotChatEngine(EngineOptions(device="cuda", cuda_graphs=graphs), ModelType.LLM)
    await asyncio.to_thread(engine.load, folder, lambda phase, done: None)

    async def answer(words: str) -> int:
        prompt = await engine.prepare_text(words)
        request = GenerationRequest(prompt, Sampling(temperature=0), max_tokens=TOKENS, ignore_eos=True)
        return sum([len(event.token_ids) async for event in engine.generate(request)])

    async def all_of_them() -> float:
        begun = time.perf_counter()
        made = await asyncio.gather(*(answer(f"the quick {i}") for i in range(ROWS)))
        return sum(made) / (time.perf_counter() - begun)

    try:
        await all_of_them()
        return await all_of_them(), engine.capabilities().engine_note
    finally:
        engine.unload()


async def test_how_fast_graphs_are(tmp_path: Path) -> None:
    """Printed, not asserted; `pytest -s` shows it."""
    small_model(tmp_path)
    plain, _ = await speed(tmp_path, "off")
    graphs, note = await speed(tmp_path, "auto")
    print(f"\ntokens/s with {ROWS} rows: {plain:.0f} without graphs, {graphs:.0f} with them")  # noqa: T201
    assert note is None


def test_a_step_that_waits_for_the_gpu_is_refused_and_leaves_everything_usable() -> None:
    import torch

    from msp_model_service.engines.slot.step_recorder import CudaStepRecorder

    device = torch.device("cuda", torch.cuda.current_device())
    recorder = CudaStepRecorder(device)
    source, target = torch.ones(4, device=device), torch.zeros(4, device=device)
    here = torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        recorder.record(lambda: target.fill_(float(source.sum())))  # type: ignore[arg-type]
    # What the warm-up does not find, the capture does.
    passes = []

    def waits_when_captured() -> None:
        passes.append(1)
        if len(passes) > 1:
            torch.cuda.synchronize()
        target.copy_(source)

    with pytest.raises(RuntimeError):
        recorder.record(waits_when_captured)
    assert torch.cuda.current_stream() == here
    assert torch.cuda.get_sync_debug_mode() == 0
    assert torch.rand(8, device=device).max().item() < 1
    recorder.forget()
    repeat = recorder.record(lambda: target.copy_(source * 2))  # type: ignore[arg-type]
    source.fill_(21)
    repeat()
    assert target.tolist() == [42] * 4
