"""Which engine serves which type of model. Each is imported only when it is made: imports take seconds."""

from collections.abc import Callable, Collection
from typing import Literal

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.external.server_plan import ServerPlan
from msp_model_service.engines.lifecycle import Engine, EngineOptions

EngineName = Literal["auto", "slot", "generate", "fake"]


def engine_maker(name: EngineName, model_type: ModelType, options: EngineOptions) -> Callable[[], Engine]:
    """What makes the engine; call it off the event loop, since it imports torch."""

    def make() -> Engine:
        if name == "fake":
            return _fake(model_type, options)
        return _real(name, model_type, options)

    return make


def external_engine_maker(
    plan: ServerPlan, model_type: ModelType, ours: Collection[str]
) -> Callable[[], Engine]:
    """What makes the engine that is an external server; `ours` are variables that it must not get to see."""

    def make() -> Engine:
        from msp_model_service.engines.external.openai_engine import OpenAiEngine

        return OpenAiEngine(plan, model_type, ours=ours)

    return make


def _real(name: EngineName, model_type: ModelType, options: EngineOptions) -> Engine:
    match model_type:
        case ModelType.LLM | ModelType.MULTIMODAL:
            return _chat(name, model_type, options)
        case ModelType.EMBEDDING:
            from msp_model_service.engines.sentence_embedder import SentenceEmbedder

            return SentenceEmbedder(options)
        case ModelType.TRANSCRIPTION:
            from msp_model_service.engines.whisper_transcriber import WhisperTranscriber

            return WhisperTranscriber(options)


def _chat(name: EngineName, model_type: ModelType, options: EngineOptions) -> Engine:
    match name:
        case "generate":
            from msp_model_service.engines.generate_chat import GenerateChatEngine

            return GenerateChatEngine(options, model_type)
        case "slot":
            from msp_model_service.engines.slot.slot_chat import SlotChatEngine

            return SlotChatEngine(options, model_type)
        case _:
            from msp_model_service.engines.slot.auto_chat import AutoChatEngine

            return AutoChatEngine(options, model_type)


def _fake(model_type: ModelType, options: EngineOptions) -> Engine:
    match model_type:
        case ModelType.LLM | ModelType.MULTIMODAL:
            from msp_model_service.engines.fake_chat import FakeChatEngine

            return FakeChatEngine(options, model_type)
        case ModelType.EMBEDDING:
            from msp_model_service.engines.fake_embedder import FakeEmbedder

            return FakeEmbedder(options)
        case ModelType.TRANSCRIPTION:
            from msp_model_service.engines.fake_transcriber import FakeTranscriber

            return FakeTranscriber(options)
