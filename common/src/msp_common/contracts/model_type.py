"""The four kinds of model and the paths that each kind answers."""

from enum import StrEnum


class ModelType(StrEnum):
    """What a model does. `vision` and `whisper` are accepted as spellings of the last two."""

    LLM = "llm"
    EMBEDDING = "embedding"
    MULTIMODAL = "multimodal"
    TRANSCRIPTION = "transcription"

    @classmethod
    def _missing_(cls, value: object) -> "ModelType | None":
        spelling = str(value).strip().lower()
        return _SPELLINGS.get(spelling) or next((t for t in cls if t.value == spelling), None)

    @property
    def chats(self) -> bool:
        """Whether models of this type answer chat completions."""
        return self in (ModelType.LLM, ModelType.MULTIMODAL)

    @property
    def paths(self) -> tuple[str, ...]:
        """OpenAI paths that a model of this type answers."""
        return _PATHS[self]


_SPELLINGS = {"vision": ModelType.MULTIMODAL, "whisper": ModelType.TRANSCRIPTION}

_PATHS = {
    ModelType.LLM: ("/v1/chat/completions", "/v1/completions", "/v1/responses"),
    ModelType.MULTIMODAL: ("/v1/chat/completions", "/v1/completions", "/v1/responses"),
    ModelType.EMBEDDING: ("/v1/embeddings",),
    ModelType.TRANSCRIPTION: ("/v1/audio/transcriptions", "/v1/audio/translations"),
}
