"""Loading the batching engine."""

from pathlib import Path
from typing import Any

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning
from support.tiny_models import CONTEXT


def engine_for(
    folder: Path, type: ModelType = ModelType.LLM, max_queued: int = 64, **tuning: Any
) -> SlotChatEngine:
    options = EngineOptions(device="cpu", max_queued=max_queued)
    engine = SlotChatEngine(options, type, SlotTuning(**{"kv_tokens": 64 * CONTEXT, **tuning}))
    engine.load(folder, lambda phase, done: None)
    return engine
