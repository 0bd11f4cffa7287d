"""The OpenAI paths that are relayed to workers, as data."""

from dataclasses import dataclass

from msp_common.contracts.model_type import ModelType


@dataclass(frozen=True)
class RelayPath:
    """One path: what type of model answers it when the request names none, and how its body is written."""

    path: str
    type: ModelType
    summary: str
    multipart: bool = False


RELAY_PATHS = {
    relayed.path: relayed
    for relayed in (
        RelayPath("/v1/chat/completions", ModelType.LLM, "Answer a conversation"),
        RelayPath("/v1/completions", ModelType.LLM, "Continue a text"),
        RelayPath("/v1/responses", ModelType.LLM, "Answer a conversation of items"),
        RelayPath("/v1/embeddings", ModelType.EMBEDDING, "Turn texts into vectors"),
        RelayPath("/v1/audio/transcriptions", ModelType.TRANSCRIPTION, "Write down speech", multipart=True),
        RelayPath(
            "/v1/audio/translations", ModelType.TRANSCRIPTION, "Write down speech in English", multipart=True
        ),
    )
}
