"""The card of workers with weights: what the fake engine cannot show, and what a model's card tells of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.conformance.fields import Field, Needs
from msp_model_service.conformance.tables import TABLES
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import Engine, EngineOptions
from msp_model_service.engines.sentence_embedder import SentenceEmbedder
from msp_model_service.engines.slot.auto_chat import AutoChatEngine
from msp_model_service.engines.whisper_transcriber import WhisperTranscriber
from support import tiny_embedding_model, tiny_models
from support.architectures import OTHERS
from support.conformance_cases import CASES, LEAST
from support.conformance_workers import Served, serving

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
OPTIONS = EngineOptions(device="cpu")
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
THINKS = tiny_models.CHATML.replace(
    "{% for m in messages %}", "{{ reasoning_effort }}{{ enable_thinking }}{% for m in messages %}", 1
)
"""A template that knows how hard a model may be told to think."""
BY_WEIGHTS = {Needs.WEIGHTS, Needs.REASONING_EFFORT, Needs.PROMPT_SCORES}
ROWS = [
    pytest.param(path, field, id=f"{path} {field.name} {field.value}".strip())
    for path in (CHAT, COMPLETIONS)
    for field in TABLES[path]
    if BY_WEIGHTS & set(field.needs)
]
FEW = {"max_tokens": 12, "seed": 1}

Make = Callable[[], tuple[Engine, ModelType]]
ServedAs = Callable[[str], Served]


def of_samples(maker: Callable[..., Engine], type: ModelType) -> Make:
    return lambda: (
        maker(OPTIONS, type) if type.chats else maker(OPTIONS),
        type,
    )


@pytest.fixture(scope="module")
def served_as(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedAs]:
    """Workers by their kind, each started once."""
    thinks = tiny_models.qwen2(tmp_path_factory.mktemp("thinks"), template=THINKS)
    folders = {
        "slot": (thinks, of_samples(AutoChatEngine, ModelType.LLM)),
        "generate": (thinks, of_samples(GenerateChatEngine, ModelType.LLM)),
        "thoughtless": (SAMPLES / "chat", of_samples(AutoChatEngine, ModelType.LLM)),
        "embedding": (SAMPLES / "embedding", of_samples(SentenceEmbedder, ModelType.EMBEDDING)),
        "images": (
            tiny_models.llava(tmp_path_factory.mktemp("images")),
            of_samples(AutoChatEngine, ModelType.MULTIMODAL),
        ),
        "whisper": (SAMPLES / "whisper", of_samples(WhisperTranscriber, ModelType.TRANSCRIPTION)),
        "matryoshka": (
            tiny_embedding_model.make(tmp_path_factory.mktemp("cut"), is_matryoshka=True),
            of_samples(SentenceEmbedder, ModelType.EMBEDDING),
        ),
    }
    with ExitStack() as stack:
        running: dict[str, Served] = {}

        def served(kind: str) -> Served:
            if kind not in running:
                running[kind] = stack.enter_context(serving(*folders[kind]))
            return running[kind]

        yield served


def told(worker: Served, path: str, field: Field) -> dict[str, Any]:
    """What the worker's own card says of the row."""
    [entry] = [
        entry
        for entry in worker.card()["paths"][path]
        if (entry["field"], entry.get("value", "")) == (field.name, field.value)
    ]
    return dict(entry)


@pytest.mark.parametrize(("path", "field"), ROWS)
@pytest.mark.parametrize("kind", ["slot", "generate"])
def test_what_needs_weights_changes_what_a_model_says(
    served_as: ServedAs, kind: str, path: str, field: Field
) -> None:
    worker, case = served_as(kind), CASES[path][field.name, field.value]
    entry = told(worker, path, field)
    without = {**LEAST[path], **FEW, **case.around}
    around = worker.send(path, without)
    done = worker.send(path, {**without, **case.sent})
    assert around.status == 200, around.error
    if entry["standing"] == "refused":
        assert (done.status, done.error["code"], done.error["param"]) == (400, entry["code"], field.name)
        return
    assert entry["standing"] == "honoured"
    assert done.status == 200, done.error
    assert done.answer != around.answer


def test_an_effort_makes_no_difference_where_the_card_says_that_the_template_knows_none(
    served_as: ServedAs,
) -> None:
    worker = served_as("thoughtless")
    [field] = [field for field in TABLES[CHAT] if field.name == "reasoning_effort"]
    assert told(worker, CHAT, field)["standing"] == "ignored"
    body = {**LEAST[CHAT], **FEW}
    plain = worker.send(CHAT, body)
    assert plain.status == 200
    assert worker.send(CHAT, {**body, "reasoning_effort": "high"}) == plain


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (
            "slot",
            {
                "engine": "slot",
                "architecture": "Qwen2ForCausalLM",
                "dtype": "float32",
                "context_length": tiny_models.CONTEXT,
                "input_modalities": ["text"],
                "tools": True,
                "tool_format": "hermes",
                "json_schema": True,
                "logprobs": True,
                "other_fields": "ignored",
            },
        ),
        (
            "images",
            {
                "engine": "slot",
                "architecture": OTHERS["multimodal"],
                "dtype": "float32",
                "input_modalities": ["text", "image"],
                "tools": False,
                "json_schema": True,
                "logprobs": True,
                "other_fields": "ignored",
            },
        ),
        (
            "embedding",
            {
                "engine": "sentence-transformers",
                "architecture": OTHERS["embedding"],
                "dtype": "float32",
                "input_modalities": ["text"],
                "tools": False,
                "json_schema": False,
                "logprobs": False,
                "other_fields": "ignored",
            },
        ),
        (
            "whisper",
            {
                "engine": "whisper",
                "architecture": OTHERS["transcription"],
                "dtype": "float32",
                "input_modalities": ["audio"],
                "tools": False,
                "json_schema": False,
                "logprobs": False,
                "other_fields": "ignored",
            },
        ),
    ],
)
def test_a_card_tells_what_is_known_of_the_model(
    served_as: ServedAs, kind: str, wanted: dict[str, Any]
) -> None:
    card = served_as(kind).card()
    known = ("paths", "context_length", "dimensions")
    assert {name: value for name, value in card.items() if name in wanted or name not in known} == wanted


def test_a_card_tells_in_how_few_bits_the_weights_are(tmp_path: Path) -> None:
    options = EngineOptions(device="cpu", quantization="bnb-4bit")
    with serving(
        SAMPLES / "chat", lambda: (GenerateChatEngine(options, ModelType.LLM), ModelType.LLM)
    ) as worker:
        assert worker.card()["quantization"] == "bnb-4bit"


def test_only_a_model_that_was_trained_for_it_is_said_to_have_shorter_vectors(served_as: ServedAs) -> None:
    [field] = [field for field in TABLES[EMBEDDINGS] if field.value == "shorter"]
    for kind, standing, status in (("matryoshka", "honoured", 200), ("embedding", "refused", 400)):
        worker = served_as(kind)
        assert told(worker, EMBEDDINGS, field)["standing"] == standing
        assert worker.send(EMBEDDINGS, {"input": "hello", "dimensions": 8}).status == status


def test_translations_are_on_a_card_where_they_are_answered(served_as: ServedAs) -> None:
    worker = served_as("whisper")
    paths = worker.card()["paths"]
    wants = worker.send("/v1/audio/translations", LEAST["/v1/audio/translations"])
    assert (wants.status == 200) == ("/v1/audio/translations" in paths)
    assert "/v1/audio/transcriptions" in paths
