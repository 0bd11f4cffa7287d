"""What is found out before the first client: fitness, self-test, falling back, precision, packed weights."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, GenerationConfig, Qwen2Config

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.catalogue import EngineName, engine_maker
from msp_model_service.engines.chat import ChatEngine, GenerationRequest, Sampling
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions
from msp_model_service.engines.packed_linear import PackedLinear, pack
from msp_model_service.engines.precision import cpu_dtype, cpu_has_fast_bf16
from msp_model_service.engines.slot import fitness, kv_budget, self_test
from msp_model_service.engines.slot.auto_chat import AutoChatEngine
from msp_model_service.engines.slot.fitness import SlotUnfit
from msp_model_service.engines.slot.forward import Forward
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning
from support import tiny_models
from support.architectures import SERVED
from support.slot_models import build, generated

OPTIONS = EngineOptions(device="cpu")


def bloom(folder: Path) -> Path:
    files = tiny_models.tokenizer()
    model = BloomForCausalLM(BloomConfig(vocab_size=len(files), hidden_size=32, n_layer=2, n_head=4))
    model.generation_config = GenerationConfig(eos_token_id=files.eos_token_id, pad_token_id=0)
    model.save_pretrained(folder)
    files.save_pretrained(folder)
    return folder


async def says(engine: ChatEngine, words: str) -> list[int]:
    prompt = await engine.prepare_text(words)
    generation = engine.generate(GenerationRequest(prompt, Sampling(temperature=0), max_tokens=8))
    return [token_id async for event in generation for token_id in event.token_ids]


async def test_a_model_for_rows_gets_the_batching_engine(tmp_path: Path) -> None:
    engine = AutoChatEngine(OPTIONS, ModelType.LLM)
    await asyncio.to_thread(engine.load, tiny_models.qwen2(tmp_path), lambda phase, done: None)
    assert (engine.name, engine.capabilities().engine, engine.capabilities().engine_note) == (
        "slot",
        "slot",
        None,
    )
    assert await says(engine, "the quick")
    engine.unload()


async def test_another_model_gets_the_plain_engine_and_the_reason_is_told(tmp_path: Path) -> None:
    engine = AutoChatEngine(OPTIONS, ModelType.LLM)
    await asyncio.to_thread(engine.load, bloom(tmp_path), lambda phase, done: None)
    assert (engine.name, engine.capabilities().engine) == ("generate", "generate")
    assert "ALiBi" in (engine.capabilities().engine_note or "")
    assert await says(engine, "the quick")
    engine.unload()


def test_who_demands_the_batching_engine_is_told_why_not(tmp_path: Path) -> None:
    engine = SlotChatEngine(OPTIONS, ModelType.LLM)
    with pytest.raises(EngineLoadFailed, match=r"ALiBi.*ENGINE=auto"):
        engine.load(bloom(tmp_path), lambda phase, done: None)
    engine.unload()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("auto", "AutoChatEngine"), ("slot", "SlotChatEngine"), ("generate", "GenerateChatEngine")],
)
@pytest.mark.parametrize("type", [ModelType.LLM, ModelType.MULTIMODAL])
def test_engines_are_found_by_name(name: EngineName, kind: str, type: ModelType) -> None:
    assert engine_maker(name, type, OPTIONS)().__class__.__name__ == kind


def test_constraints_of_a_repository_are_left_to_generate(tmp_path: Path) -> None:
    folder = tiny_models.qwen2(tmp_path, suppress_tokens=[5], no_repeat_ngram_size=0)
    with pytest.raises(SlotUnfit, match="suppress_tokens"):
        SlotChatEngine(OPTIONS, ModelType.LLM).load(folder, lambda phase, done: None)


@pytest.mark.parametrize("kind", ["mrope_section", "default"])
def test_positions_in_several_dimensions_are_refused(kind: str) -> None:
    config = Qwen2Config(rope_parameters={"rope_type": "default", "rope_theta": 1e4, kind: [2, 3, 3]})
    assert bool(fitness.obstacle(config)) == (kind == "mrope_section")


def loaded_with(folder: Path) -> Any:
    from msp_model_service.engines import chat_model

    return chat_model.load(folder, ModelType.LLM, OPTIONS, lambda phase, done: None)


def test_a_model_that_looks_at_more_than_its_row_fails_the_self_test(tmp_path: Path) -> None:
    """Stands for an architecture whose forward pass ignores the masks or positions it is given."""
    loaded = loaded_with(tiny_models.qwen2(tmp_path))
    self_test.check(loaded, Forward(loaded.model))
    forward = Forward(loaded.model)
    broken = _Wrong(loaded.model)
    forward._model = broken
    with pytest.raises(SlotUnfit, match="differ"):
        self_test.check(loaded, forward)


class _Wrong:
    """A model that takes every position for the one before it."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, **inputs: Any) -> Any:
        return self._model(**{**inputs, "position_ids": (inputs["position_ids"] // 2)})


def test_a_model_that_cannot_run_in_rows_fails_the_self_test_with_the_cause(tmp_path: Path) -> None:
    loaded = loaded_with(tiny_models.qwen2(tmp_path))
    forward = Forward(loaded.model)

    def refuse(**inputs: Any) -> Any:
        raise TypeError("forward() got an unexpected keyword argument")

    forward._model = refuse
    with pytest.raises(SlotUnfit, match="unexpected keyword"):
        self_test.check(loaded, forward)


async def test_in_bfloat16_the_self_test_allows_for_rounding(tmp_path: Path) -> None:
    engine = SlotChatEngine(
        OPTIONS, ModelType.LLM, SlotTuning(kv_tokens=4096, cpu_dtype=lambda config: torch.bfloat16)
    )
    await asyncio.to_thread(engine.load, tiny_models.qwen2(tmp_path), lambda phase, done: None)
    assert engine._ready().loaded.model.dtype is torch.bfloat16
    assert len(await says(engine, "the quick")) > 0
    engine.unload()


@pytest.mark.parametrize(
    ("flags", "stored", "expected"),
    [
        ("fpu avx512_bf16 sse", torch.bfloat16, torch.bfloat16),
        ("fpu amx_bf16 sse", torch.bfloat16, torch.bfloat16),
        ("fpu avx512f sse", torch.bfloat16, torch.float32),
        ("fpu avx512_bf16 sse", torch.float32, torch.float32),
        ("fpu avx512_bf16 sse", torch.float16, torch.float32),
    ],
)
def test_bfloat16_is_for_weights_stored_so_on_processors_that_have_it(
    flags: str, stored: torch.dtype, expected: torch.dtype
) -> None:
    cpuinfo = f"processor : 0\nmodel : x\nflags\t\t: {flags}\n\nprocessor : 1\n"
    config = Qwen2Config(dtype=stored)
    assert cpu_dtype(config, lambda: cpu_has_fast_bf16(lambda path: cpuinfo)) is expected


def test_a_machine_that_tells_nothing_has_no_bfloat16() -> None:
    assert not cpu_has_fast_bf16(lambda path: None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_layers_compute_what_plain_ones_do(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(256, 192, bias=bias), nn.ReLU(), nn.Linear(192, 256, bias=bias)).to(dtype)
    given = torch.randn(3, 7, 256).to(dtype)
    with torch.inference_mode():
        right = plain(given)
        assert pack(plain) == 2
        assert isinstance(plain[0], PackedLinear)
        assert torch.allclose(plain(given), right, atol=1e-5 if dtype is torch.float32 else 2e-2, rtol=1e-2)
        assert plain(given[0, :1]).shape == (1, 256)


def test_only_plain_and_large_layers_are_packed() -> None:
    class Special(nn.Linear):
        pass

    with_scales = nn.Linear(256, 256)
    with_scales.weight_scale = nn.Parameter(torch.ones(256))
    with_forward_of_its_own = nn.Linear(256, 256)
    vars(with_forward_of_its_own)["forward"] = lambda x: x
    model = nn.Sequential(
        nn.Linear(256, 256),
        nn.Linear(8, 8),
        Special(256, 256),
        nn.Linear(256, 256).double(),
        nn.Embedding(256, 256),
        with_scales,
        with_forward_of_its_own,
    )
    assert pack(model) == 1
    assert isinstance(model[0], PackedLinear)


def test_packed_weights_say_the_same_tokens() -> None:
    model = build("Qwen2", {**SERVED["Qwen2"], "hidden_size": 128, "intermediate_size": 256})
    prompts = [[5, 6, 7], list(range(10, 60))]
    right = [generated(model, prompt, 12) for prompt in prompts]
    assert pack(model) > 10
    assert [generated(model, prompt, 12) for prompt in prompts] == right


def test_the_cpus_budget_is_a_share_of_what_is_free_divided_among_the_workers() -> None:
    def budget(**told: Any) -> int:
        return kv_budget.kv_bytes(torch.device("cpu"), 0.9, free=lambda: 1000, **told)

    assert budget() == 300
    assert budget(share=0.5) == 500
    assert budget(share=0.5, workers_per_host=4) == 125
    assert 0 < kv_budget.kv_bytes(torch.device("cpu"), 0.9) < 2**44
    assert kv_budget.kv_bytes(torch.device("cpu"), 0.9, free=lambda: None) == 2**30


def test_what_the_operator_says_is_what_the_engine_uses(tmp_path: Path) -> None:
    told = replace(OPTIONS, max_running=3, prefill_tokens=48, queue_deadline_s=7, kv_memory_fraction=0.01)
    engine = SlotChatEngine(told, ModelType.LLM)
    engine.load(tiny_models.qwen2(tmp_path), lambda phase, done: None)
    running = engine._ready()
    assert (running.batch.limits.max_rows, running.batch.limits.prefill_tokens) == (3, 48)
    assert running.loop._deadline_s == 7
    assert engine.load_now().slots == 3
    engine.unload()


def test_too_little_memory_for_one_short_conversation_is_told_at_the_start(tmp_path: Path) -> None:
    engine = SlotChatEngine(replace(OPTIONS, kv_memory_fraction=1e-9), ModelType.LLM)
    with pytest.raises(EngineLoadFailed, match=r"memory for keys and values.*KV_MEMORY_FRACTION"):
        engine.load(tiny_models.qwen2(tmp_path), lambda phase, done: None)


def test_the_vocabularys_padding_is_no_obstacle(tmp_path: Path) -> None:
    """Models pad their output layer; the tokenizer knows fewer tokens, or, after additions, more."""
    folder = tiny_models.qwen2(tmp_path)
    file = folder / "config.json"
    assert json.loads(file.read_text())["vocab_size"] == len(tiny_models.tokenizer())
    loaded = loaded_with(folder)
    loaded.model.resize_token_embeddings(len(loaded.tokenizer) + 24)
    loaded.vocabulary_size += 24
    self_test.check(loaded, Forward(loaded.model))
