"""Which engine serves which type of model. Each is imported only when it is made: imports take seconds."""

from collections.abc import Callable
from typing import Literal

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.lifecycle import Engine, EngineOptions

EngineName = Literal["auto", "generate", "fake"]


def engine_maker(name: EngineName, model_type: ModelType, options: EngineOptions) -> Callable[[], Engine]:
    """What makes the engine; call it off the event loop, since it imports torch."""

    def make() -> Engine:
        if name == "fake":
            return _fake(model_type, options)
        return _real(model_type, options)

    return make


def _real(model_type: ModelType, options: EngineOptions) -> Engine:
    match model_type:
        case ModelType.LLM | ModelType.MULTIMODAL:
            from msp_model_service.engines.generate_chat import GenerateChatEngine

            return GenerateChatEngine(options, model_type)
        case ModelType.EMBEDDING:
            from msp_model_service.engines.sentence_embedder import SentenceEmbedder

            return SentenceEmbedder(options)
        case ModelType.TRANSCRIPTION:
            from msp_model_service.engines.whisper_transcriber import WhisperTranscriber

            return WhisperTranscriber(options)


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
