"""Translations, and the times of words: what the official client reads of them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.fake_transcriber import FakeTranscriber
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.transcriber import Transcriber
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.transcriptions import router
from support import audio_files
from support.one_route_app import MODEL, app_with, context_for
from support.servers import run_server

TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
VERBOSE = {"response_format": "verbose_json"}


class EnglishOnly(FakeTranscriber):
    """Cannot translate."""

    def translates(self) -> bool:
        """As `whisper-base.en`."""
        return False


@pytest.fixture
def engine() -> FakeTranscriber:
    return FakeTranscriber(EngineOptions())


def app_of(engine: FakeTranscriber) -> Any:
    context: RouteContext[Transcriber] = context_for(engine, ModelType.TRANSCRIPTION)
    return app_with(router(context))


@pytest.fixture
async def http(engine: FakeTranscriber) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_of(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        yield client


@pytest.fixture
def sdk(engine: FakeTranscriber) -> Iterator[openai.OpenAI]:
    with (
        run_server(app_of(engine)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def upload() -> dict[str, Any]:
    return {"file": ("a.wav", audio_files.wav(2), "audio/x-wav")}


def test_the_official_client_gets_the_words(sdk: openai.OpenAI) -> None:
    answer = sdk.audio.transcriptions.create(
        model=MODEL,
        file=("a.wav", audio_files.wav(2)),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert answer.words is not None
    assert answer.segments is not None
    assert [(w.word, w.start, w.end) for w in answer.words] == [
        ("second", 0.0, 0.5),
        ("1", 0.5, 1.0),
        ("second", 1.0, 1.5),
        ("2", 1.5, 2.0),
    ]
    assert len(answer.segments) == 2


async def test_a_verbose_answer_tells_only_the_times_that_were_asked_for(http: httpx.AsyncClient) -> None:
    async def keys(*granularities: str) -> set[str]:
        data = {**VERBOSE, "timestamp_granularities[]": list(granularities)}
        answer = await http.post(TRANSCRIPTIONS, data=data, files=upload())
        return {"words", "segments"} & set(answer.json())

    assert await keys() == {"segments"}
    assert await keys("segment") == {"segments"}
    assert await keys("word") == {"words"}
    assert await keys("word", "segment") == {"words", "segments"}


async def test_words_are_worked_out_only_when_asked_for(
    http: httpx.AsyncClient, engine: FakeTranscriber
) -> None:
    await http.post(TRANSCRIPTIONS, data=VERBOSE, files=upload())
    await http.post(TRANSCRIPTIONS, data={**VERBOSE, "timestamp_granularities": "word"}, files=upload())
    assert [asked.words for asked in engine.requests] == [False, True]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_the_official_client_gets_a_translation(sdk: openai.OpenAI, engine: FakeTranscriber) -> None:
    plain = sdk.audio.translations.create(model=MODEL, file=("a.wav", audio_files.wav(2)))
    assert plain.text == "second 1 second 2"
    verbose = sdk.audio.translations.create(
        model=MODEL,
        file=("a.wav", audio_files.wav(2)),
        response_format="verbose_json",
        prompt="names",
        temperature=0.2,
    )
    assert (verbose.language, verbose.duration, verbose.text) == ("english", 2.0, "second 1 second 2")
    assert verbose.segments is not None
    assert [segment.end for segment in verbose.segments] == [1.0, 2.0]
    assert [asked.translate for asked in engine.requests] == [True, True]


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
async def test_a_translation_reads_as_a_transcript_does(http: httpx.AsyncClient, form: str) -> None:
    answers = [
        (await http.post(path, data={"response_format": form}, files=upload())).text
        for path in (TRANSCRIPTIONS, TRANSLATIONS)
    ]
    assert answers[0] == answers[1]


async def test_a_verbose_answer_names_its_task_and_language(http: httpx.AsyncClient) -> None:
    tasks = []
    for path in (TRANSCRIPTIONS, TRANSLATIONS):
        answer = await http.post(path, data={**VERBOSE, "language": "de"}, files=upload())
        tasks.append((answer.json()["task"], answer.json()["language"]))
    assert tasks == [("transcribe", "german"), ("translate", "english")]


async def test_a_model_that_cannot_translate_says_so_and_still_transcribes() -> None:
    engine = EnglishOnly(EngineOptions())
    transport = httpx.ASGITransport(app_of(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        refused = await http.post(TRANSLATIONS, files=upload())
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
        assert (await http.post(TRANSCRIPTIONS, files=upload())).status_code == 200


async def test_a_translation_is_not_streamed(http: httpx.AsyncClient) -> None:
    refused = await http.post(TRANSLATIONS, data={"stream": "true"}, files=upload())
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")


async def test_the_openapi_page_describes_both_forms(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()

    def fields(path: str) -> set[str]:
        body = document["paths"][path]["post"]["requestBody"]
        return set(body["content"]["multipart/form-data"]["schema"]["properties"])

    shared = {"file", "model", "language", "prompt", "temperature", "response_format"}
    assert fields(TRANSCRIPTIONS) == shared | {"stream", "include[]", "timestamp_granularities[]"}
    assert fields(TRANSLATIONS) == shared | {"timestamp_granularities[]"}
