"""The trained sample: the right words, alone and beside fifteen others, with their times."""

import asyncio
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.audio.decoding import decode
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.transcriber import (
    SAMPLE_RATE,
    Audio,
    Segment,
    Transcriber,
    TranscriptionRequest,
)
from msp_model_service.engines.whisper_transcriber import WhisperTranscriber
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.transcriptions import router
from support import audio_files
from support.one_route_app import MODEL, app_with, context_for
from support.servers import run_server

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
SAID = {
    "seven": "seven",
    "three-one-four": "three one four",
    "five-nine-eight": "five nine eight",
    "two-zero-two-six": "two zero two six",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[WhisperTranscriber]:
    engine = WhisperTranscriber(EngineOptions(device="cpu"))
    engine.load(SAMPLES / "whisper", lambda phase, share: None)
    yield engine
    engine.unload()


def sound(name: str) -> Audio:
    return decode(io.BytesIO((SAMPLES / "audio" / f"{name}.wav").read_bytes()), 60)


async def segments(engine: WhisperTranscriber, request: TranscriptionRequest) -> list[Segment]:
    return [item async for item in engine.transcribe(request) if isinstance(item, Segment)]


async def text(engine: WhisperTranscriber, request: TranscriptionRequest) -> str:
    return "".join(segment.text for segment in await segments(engine, request)).strip()


@pytest.mark.parametrize("name", SAID)
async def test_digits_are_written_down(engine: WhisperTranscriber, name: str) -> None:
    for timestamps in (False, True):
        asked = TranscriptionRequest(sound(name), language="en", timestamps=timestamps)
        assert await text(engine, asked) == SAID[name]


async def test_sixteen_at_once_are_each_written_down_as_alone(engine: WhisperTranscriber) -> None:
    names = [*SAID] * 4
    texts = await asyncio.gather(
        *(text(engine, TranscriptionRequest(sound(name), language="en")) for name in names)
    )
    assert texts == [SAID[name] for name in names]


async def test_words_are_said_one_after_the_other_while_there_is_sound(engine: WhisperTranscriber) -> None:
    before_s = 1.5
    said = sound("two-zero-two-six")
    audio = np.concatenate([np.zeros(round(before_s * SAMPLE_RATE), dtype=np.float32), said])
    request = TranscriptionRequest(audio, language="en", words=True)
    words = [word for segment in await segments(engine, request) for word in segment.words]
    assert [word.text for word in words] == SAID["two-zero-two-six"].split()
    assert all(one.end <= other.start + 1e-6 for one, other in itertools.pairwise(words))
    # Each in its quarter of the sound, give or take half a word.
    quarter_s = said.size / SAMPLE_RATE / 4
    for number, word in enumerate(words[1:], 1):
        assert word.start == pytest.approx(before_s + number * quarter_s, abs=quarter_s)


async def test_a_recording_of_many_windows_is_written_down_whole(engine: WhisperTranscriber) -> None:
    window = 6 * SAMPLE_RATE
    names = [*SAID] * 3
    audio = np.concatenate([np.pad(sound(name), (0, window - sound(name).size)) for name in names])
    for timestamps in (False, True):
        asked = TranscriptionRequest(audio, language="en", timestamps=timestamps)
        assert (await text(engine, asked)).split() == " ".join(SAID[name] for name in names).split()


def test_the_official_client_streams_and_reads_words_of_the_trained_model(engine: WhisperTranscriber) -> None:
    context: RouteContext[Transcriber] = context_for(engine, ModelType.TRANSCRIPTION)
    whole = np.concatenate([np.pad(sound(name), (0, 6 * SAMPLE_RATE - sound(name).size)) for name in SAID])
    file = ("a.flac", audio_files.encode(whole, "flac", rate=SAMPLE_RATE))
    with (
        run_server(app_with(router(context))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        events = list(client.audio.transcriptions.create(model=MODEL, file=file, language="en", stream=True))
        verbose = client.audio.transcriptions.create(
            model=MODEL,
            file=file,
            language="en",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    *deltas, done = events
    assert len(deltas) >= len(SAID)
    assert done.type == "transcript.text.done"
    assert done.text.split() == " ".join(SAID.values()).split()
    assert "".join(event.delta for event in deltas if event.type == "transcript.text.delta") == done.text
    assert verbose.words is not None
    assert [word.word for word in verbose.words] == done.text.split()
    # The first word of each recording, in the window of six seconds that it was put in.
    firsts = np.cumsum([0, *(len(text.split()) for text in SAID.values())])[:-1]
    assert [int(verbose.words[first].start // 6) for first in firsts] == [0, 1, 2, 3]
