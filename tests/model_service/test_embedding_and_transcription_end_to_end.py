"""Models of a few kilobytes, real engines, a real server and the official client."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openai
import pytest
from fastapi import APIRouter

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.embedder import Embedder
from msp_model_service.engines.lifecycle import Engine, EngineOptions
from msp_model_service.engines.sentence_embedder import SentenceEmbedder
from msp_model_service.engines.transcriber import Transcriber
from msp_model_service.engines.whisper_transcriber import WhisperTranscriber
from msp_model_service.routes import embeddings, transcriptions
from support import audio_files, tiny_embedding_model, tiny_whisper_model
from support.one_route_app import MODEL, app_with, context_for
from support.servers import run_server


@contextmanager
def served(engine: Engine, repository: Path, routes: APIRouter) -> Iterator[openai.OpenAI]:
    engine.load(repository, lambda phase, share: None)
    try:
        with (
            run_server(app_with(routes)) as url,
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            yield client
    finally:
        engine.unload()


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    engine: Embedder = SentenceEmbedder(EngineOptions(device="cpu"))
    repository = tiny_embedding_model.make(tmp_path_factory.mktemp("embedding"))
    with served(engine, repository, embeddings.router(context_for(engine, ModelType.EMBEDDING))) as client:
        yield client


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    engine: Transcriber = WhisperTranscriber(EngineOptions(device="cpu"))
    repository = tiny_whisper_model.make(tmp_path_factory.mktemp("whisper"))
    routes = transcriptions.router(context_for(engine, ModelType.TRANSCRIPTION))
    with served(engine, repository, routes) as client:
        yield client


def test_base64_and_float_give_the_same_unit_vectors(embedding: openai.OpenAI) -> None:
    texts = ["the quick brown fox", "hello"]
    answers = [
        embedding.embeddings.create(model=MODEL, input=texts),
        embedding.embeddings.create(model=MODEL, input=texts, encoding_format="float"),
    ]
    first, second = (np.array([item.embedding for item in answer.data]) for answer in answers)
    assert first.shape == (2, tiny_embedding_model.DIMENSIONS)
    np.testing.assert_allclose(first, second, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    # Each word is one piece, and each text stands between [CLS] and [SEP].
    assert answers[0].usage.prompt_tokens == (4 + 2) + (1 + 2)


def test_2048_texts_are_answered_in_their_order(embedding: openai.OpenAI) -> None:
    texts = ["cat " * (1 + number % 20) for number in range(2048)]
    answer = embedding.embeddings.create(model=MODEL, input=texts)
    assert [item.index for item in answer.data] == list(range(2048))
    vectors = np.array([item.embedding for item in answer.data])
    np.testing.assert_allclose(vectors[:20], vectors[20:40], atol=1e-5)
    assert np.abs(vectors[0] - vectors[19]).max() > 1e-3


def test_a_text_that_does_not_fit_is_refused_and_not_cut(embedding: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        embedding.embeddings.create(model=MODEL, input=["fine", "cat " * 23])
    assert (refused.value.param, refused.value.code) == ("input.1", "context_length_exceeded")
    assert "25 tokens" in refused.value.message
    assert "at most 24" in refused.value.message


def test_any_recording_is_transcribed_and_longer_than_the_window(whisper: openai.OpenAI) -> None:
    seconds = 2.5 * tiny_whisper_model.WINDOW_S
    recording = audio_files.encode(audio_files.tone(seconds, 48_000), "webm")
    answer = whisper.audio.transcriptions.create(
        model=MODEL, file=("a.webm", recording), response_format="verbose_json", language="french"
    )
    assert answer.language == "french"
    assert answer.duration == pytest.approx(seconds, abs=0.1)
    assert answer.segments is not None
    assert len(answer.segments) >= 3


def test_a_streamed_transcript_is_the_whole_one(whisper: openai.OpenAI) -> None:
    recording = ("a.wav", audio_files.wav(2.5 * tiny_whisper_model.WINDOW_S))
    whole = whisper.audio.transcriptions.create(model=MODEL, file=recording, language="en")
    events = list(
        whisper.audio.transcriptions.create(model=MODEL, file=recording, language="en", stream=True)
    )
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) >= 2
    assert "".join(deltas) == whole.text


def test_control_tokens_in_a_prompt_are_refused(whisper: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        whisper.audio.transcriptions.create(
            model=MODEL, file=("a.wav", audio_files.wav()), prompt="<|translate|>"
        )
    assert refused.value.param == "prompt"
