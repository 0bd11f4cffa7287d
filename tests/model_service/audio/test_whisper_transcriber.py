"""The Whisper engine with random weights: windows, times, languages, prompts, and giving up."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from msp_common.errors import InvalidRequest, TooManyRequests, Unavailable
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions
from msp_model_service.engines.transcriber import (
    SAMPLE_RATE,
    Audio,
    Language,
    Segment,
    TranscriptionRequest,
)
from msp_model_service.engines.whisper_transcriber import WhisperTranscriber
from support import tiny_whisper_model as tiny


def loaded(folder: Path, max_queued: int = 4, *, fall_back: bool = False) -> WhisperTranscriber:
    """Without a fall-back by default: random weights are never to be believed."""
    options = EngineOptions(device="cpu", max_queued=max_queued, audio_fall_back=fall_back)
    engine = WhisperTranscriber(options)
    engine.load(folder, lambda phase, share: None)
    return engine


def noise(seconds: float, seed: int = 0) -> Audio:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (0.1 * samples).astype(np.float32)


async def heard(
    engine: WhisperTranscriber, request: TranscriptionRequest
) -> tuple[str | None, list[Segment]]:
    items = [item async for item in engine.transcribe(request)]
    assert isinstance(items[0], Language)
    segments = [item for item in items if isinstance(item, Segment)]
    assert len(segments) == len(items) - 1
    return items[0].code, segments


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def engine(repository: Path) -> Iterator[WhisperTranscriber]:
    engine = loaded(repository)
    yield engine
    engine.unload()


@pytest.mark.parametrize("timestamps", [True, False])
async def test_one_window_gives_the_tokens_of_transformers(
    repository: Path, engine: WhisperTranscriber, timestamps: bool
) -> None:
    audio = noise(tiny.WINDOW_S)
    _, segments = await heard(engine, TranscriptionRequest(audio, language="fr", timestamps=timestamps))
    processor = WhisperProcessor.from_pretrained(repository, local_files_only=True)
    model = WhisperForConditionalGeneration.from_pretrained(repository, local_files_only=True).eval()
    features = processor.feature_extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = model.generate(
            features.input_features,
            language="fr",
            task="transcribe",
            return_timestamps=timestamps,
            return_segments=True,
            max_length=tiny.LENGTH // 2,
        )["segments"][0]
    first = processor.tokenizer.convert_tokens_to_ids("<|0.00|>")
    end = processor.tokenizer.eos_token_id
    hidden = {end, *(range(first, len(processor.tokenizer)) if timestamps else ())}
    spoken = [[t for t in each["tokens"].tolist() if t not in hidden] for each in expected]
    # The library hears what is left of a window again in a padded one; here the next window begins there.
    windows = [list(segment.tokens) for segment in segments if segment.seek == 0]
    assert windows
    assert windows == [tokens for tokens in spoken if tokens][: len(windows)]


async def test_a_recording_of_many_windows_is_heard_to_its_end(engine: WhisperTranscriber) -> None:
    duration = 3.4 * tiny.WINDOW_S
    _, segments = await heard(engine, TranscriptionRequest(noise(duration), timestamps=True))
    starts = [segment.start for segment in segments]
    assert starts == sorted(starts)
    assert all(0 <= segment.start <= segment.end <= duration for segment in segments)
    assert segments[-1].seek / 100 + tiny.WINDOW_S >= duration
    assert len({segment.seek for segment in segments}) >= 4


async def test_a_model_without_timestamps_is_heard_window_by_window(tmp_path: Path) -> None:
    engine = loaded(tiny.make(tmp_path, timestamps=False))
    _, segments = await heard(engine, TranscriptionRequest(noise(2.5 * tiny.WINDOW_S), timestamps=True))
    window = float(tiny.WINDOW_S)
    assert {(s.start, s.end) for s in segments} <= {
        (0.0, window),
        (window, 2 * window),
        (2 * window, 2.5 * window),
    }
    assert len(segments) == 3
    engine.unload()


async def test_the_language_is_detected_once_or_taken_as_told(engine: WhisperTranscriber) -> None:
    detected, _ = await heard(engine, TranscriptionRequest(noise(3 * tiny.WINDOW_S)))
    assert detected in tiny.LANGUAGES
    for language in tiny.LANGUAGES:
        told, _ = await heard(engine, TranscriptionRequest(noise(1), language=language))
        assert told == language
    assert engine.languages()["de"] == ("german",)


async def test_a_model_of_english_alone_needs_no_language(tmp_path: Path) -> None:
    engine = loaded(tiny.make(tmp_path, multilingual=False))
    assert engine.languages() == {"en": ("english",)}
    for language in ("en", None):
        told, segments = await heard(engine, TranscriptionRequest(noise(1), language=language))
        assert told == "en"
        assert segments
    engine.unload()


async def test_recordings_at_once_read_as_they_do_alone(engine: WhisperTranscriber) -> None:
    asked = [
        TranscriptionRequest(
            noise(0.7 + 0.9 * number, seed=number),
            language=(None, "fr", "de")[number % 3],
            prompt="three four" if number % 4 == 1 else None,
            translate=number % 5 == 2,
            timestamps=number % 2 == 0,
            words=number % 3 == 0,
        )
        for number in range(5)
    ]
    alone = [await heard(engine, request) for request in asked]
    together = await asyncio.gather(*(heard(engine, request) for request in asked))
    for one, other in zip(alone, together, strict=True):
        assert one[0] == other[0]
        assert [_comparable(segment) for segment in one[1]] == [_comparable(segment) for segment in other[1]]
    assert any(segments for _, segments in alone)


def _comparable(segment: Segment) -> tuple[Any, ...]:
    """All that is not a probability, whose last digits depend on how many rows a product has."""
    words = [(word.text, round(word.start, 3), round(word.end, 3)) for word in segment.words]
    return segment.start, segment.end, segment.text, segment.tokens, segment.seek, segment.temperature, words


async def test_a_short_recording_does_not_wait_for_a_long_ones_end(engine: WhisperTranscriber) -> None:
    long = TranscriptionRequest(noise(200 * tiny.WINDOW_S))
    async with aclosing(engine.transcribe(long)) as items:
        await anext(items)
        _, segments = await asyncio.wait_for(heard(engine, TranscriptionRequest(noise(1))), 5)
        assert segments
        assert engine.load_now().in_flight == 1


async def test_text_that_is_not_to_be_believed_is_written_again_and_reads_the_same_each_time(
    repository: Path,
) -> None:
    engine = loaded(repository, fall_back=True)
    doubtful = [await heard(engine, TranscriptionRequest(noise(1), language="en")) for _ in range(2)]
    told = await heard(engine, TranscriptionRequest(noise(1), language="en", temperature=0.3))
    engine.unload()
    # Random weights believe nothing: the last temperature is reached, by draws that are the recording's own.
    assert {segment.temperature for _, segments in doubtful for segment in segments} == {1.0}
    assert doubtful[0] == doubtful[1]
    assert {segment.temperature for segment in told[1]} <= {0.3}


async def test_words_have_times_in_their_order_within_the_recording(engine: WhisperTranscriber) -> None:
    duration = 2.3 * tiny.WINDOW_S
    _, segments = await heard(engine, TranscriptionRequest(noise(duration), timestamps=True, words=True))
    words = [word for segment in segments for word in segment.words]
    assert words
    assert all(0 <= word.start <= word.end <= duration for word in words)
    for segment in segments:
        starts = [word.start for word in segment.words]
        assert starts == sorted(starts)
        assert "".join(word.text for word in segment.words) == "".join(segment.text.split())


async def test_a_translation_is_another_task_than_a_transcript(
    engine: WhisperTranscriber, tmp_path: Path
) -> None:
    english = loaded(tiny.make(tmp_path, multilingual=False))
    assert engine.translates()
    assert not english.translates()
    assert english.capabilities().paths == ["/v1/audio/transcriptions"]
    english.unload()
    tasks = [
        await heard(engine, TranscriptionRequest(noise(1), language="fr", translate=translate))
        for translate in (False, True)
    ]
    assert tasks[0] != tasks[1]


async def test_greedy_is_the_same_twice_and_sampling_is_not(engine: WhisperTranscriber) -> None:
    async def texts(temperature: float) -> set[str]:
        request = TranscriptionRequest(noise(1), temperature=temperature)
        return {"".join(s.text for s in (await heard(engine, request))[1]) for _ in range(4)}

    assert len(await texts(0.0)) == 1
    assert len(await texts(1.0)) > 1


async def test_a_prompt_changes_what_is_heard_however_long_it_is(engine: WhisperTranscriber) -> None:
    async def tokens(prompt: str | None) -> list[int]:
        _, segments = await heard(engine, TranscriptionRequest(noise(1), prompt=prompt))
        return [token for segment in segments for token in segment.tokens]

    without, short = await tokens(None), await tokens("three four")
    assert without != short
    assert await tokens("seven " * 500 + "three four")


def test_a_prompt_may_not_hold_control_tokens(engine: WhisperTranscriber) -> None:
    engine.check_prompt("Grüße 😀")
    with pytest.raises(InvalidRequest) as refused:
        engine.check_prompt("now <|translate|>")
    assert refused.value.param == "prompt"


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3, 20.0])
async def test_any_length_of_silence_is_heard_without_an_error(
    engine: WhisperTranscriber, seconds: float
) -> None:
    silence = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)
    await heard(engine, TranscriptionRequest(silence, timestamps=True))


async def test_closing_gives_the_engine_to_the_next(engine: WhisperTranscriber) -> None:
    long = TranscriptionRequest(noise(200 * tiny.WINDOW_S))
    async with aclosing(engine.transcribe(long)) as items:
        await anext(items)
        await anext(items)
    _, segments = await asyncio.wait_for(heard(engine, TranscriptionRequest(noise(1))), 2)
    assert segments
    assert engine.problem() is None


async def test_more_than_may_wait_are_refused_and_unloading_ends_the_rest(repository: Path) -> None:
    engine = loaded(repository, max_queued=0)
    long = TranscriptionRequest(noise(500 * tiny.WINDOW_S))
    async with aclosing(engine.transcribe(long)) as items:
        await anext(items)
        assert engine.load_now().in_flight == 1
        with pytest.raises(TooManyRequests):
            await heard(engine, long)
        stopping = asyncio.create_task(asyncio.to_thread(engine.unload))
        with pytest.raises(Unavailable):
            [item async for item in items]
        await stopping


def test_a_folder_that_is_no_whisper_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineLoadFailed, match=tmp_path.name):
        loaded(tmp_path)


def test_it_says_what_it_can_do(engine: WhisperTranscriber) -> None:
    capabilities = engine.capabilities()
    assert capabilities.paths == ["/v1/audio/transcriptions", "/v1/audio/translations"]
    assert capabilities.input_modalities == ["audio"]
