"""Architectures of which the documentation says that `generate` answers them: it does, and tells why."""

import asyncio
from pathlib import Path

import pytest
from transformers import GenerationConfig

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.auto_chat import AutoChatEngine
from support import tiny_models
from support.architectures import LEFT, class_of
from support.chat_talk import events, ids
from support.slot_models import build, generated


@pytest.mark.parametrize("name", LEFT)
async def test_what_is_left_to_generate_is_answered_by_it(name: str, tmp_path: Path) -> None:
    model, files = build(name, LEFT[name].options), tiny_models.tokenizer()
    model.generation_config = GenerationConfig(eos_token_id=files.eos_token_id, pad_token_id=0)
    model.save_pretrained(tmp_path)
    files.save_pretrained(tmp_path)
    engine = AutoChatEngine(EngineOptions(device="cpu"), ModelType.LLM)
    await asyncio.to_thread(engine.load, tmp_path, lambda phase, done: None)
    try:
        facts, can = engine.model_facts(), engine.capabilities()
        assert (facts.architecture, can.engine) == (class_of(name), "generate")
        assert LEFT[name].why in (can.engine_note or "")
        prompt = await engine.prepare_text("the quick")
        made = await events(engine, prompt, max_tokens=4, ignore_eos=True)
        assert ids(made) == generated(model, prompt.token_ids, 4)
    finally:
        engine.unload()
