"""`/v1/audio/transcriptions` as clients use it, with an engine that counts loud seconds."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.errors import TooManyRequests, Unavailable
from msp_model_service.audio.limits import AudioLimits
from msp_model_service.engines.fake_transcriber import FakeTranscriber
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.transcriber import Transcriber
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.transcriptions import router
from support import audio_files
from support.one_route_app import ALIAS, MODEL, RememberedUsage, app_with, context_for
from support.servers import run_server

PATH = "/v1/audio/transcriptions"
VERBOSE = {"response_format": "verbose_json"}


class Worker:
    """A served fake engine whose segments come when the test says so."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.at_gate = asyncio.Event()
        self.engine = FakeTranscriber(EngineOptions(), before_segment=self._before_segment)
        self.usage = RememberedUsage()

    async def _before_segment(self, number: int) -> None:
        if self.failure is not None and number == 2:
            raise self.failure
        if self.gate is not None and number == 2:
            self.at_gate.set()
            await self.gate.wait()

    def client(
        self, limits: AudioLimits | None = None, max_body_bytes: int = 32 * 2**20
    ) -> httpx.AsyncClient:
        context: RouteContext[Transcriber] = context_for(self.engine, ModelType.TRANSCRIPTION, self.usage)
        app = app_with(router(context, limits), max_body_bytes)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://worker")


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def http(worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    async with worker.client() as client:
        yield client


@pytest.fixture
def sdk() -> Iterator[openai.OpenAI]:
    """The official client, against a real server."""
    engine = FakeTranscriber(EngineOptions())
    context: RouteContext[Transcriber] = context_for(engine, ModelType.TRANSCRIPTION)
    app = app_with(router(context))
    with (
        run_server(app) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def upload(data: bytes | None = None, name: str = "a.wav") -> dict[str, Any]:
    return {"file": (name, audio_files.wav(2) if data is None else data, "application/octet-stream")}


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def events_of(body: str) -> list[Any]:
    frames = body.split("\n\n")
    assert frames[-1] == ""
    payloads = [frame.removeprefix("data: ") for frame in frames[:-1]]
    return [json.loads(payload) if payload != "[DONE]" else payload for payload in payloads]


# The official client.


def test_the_official_client_gets_a_transcript(sdk: openai.OpenAI) -> None:
    answer = sdk.audio.transcriptions.create(model=MODEL, file=("a.wav", audio_files.wav(2)))
    assert answer.text == "second 1 second 2"
    assert answer.usage is not None
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 2.0)  # type: ignore[union-attr]


def test_the_official_client_gets_segments(sdk: openai.OpenAI) -> None:
    answer = sdk.audio.transcriptions.create(
        model=MODEL,
        file=("a.wav", audio_files.wav(2.5)),
        response_format="verbose_json",
        language="de",
        prompt="Names: Grüße",
        temperature=0.5,
        timestamp_granularities=["segment"],
        include=["logprobs"],
    )
    assert (answer.language, answer.duration) == ("german", 2.5)
    assert answer.segments is not None
    assert [(s.start, s.end, s.text) for s in answer.segments] == [
        (0.0, 1.0, " second 1"),
        (1.0, 2.0, " second 2"),
        (2.0, 2.5, " second 3"),
    ]


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("text", "second 1 second 2"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:01,000\nsecond 1\n\n2\n00:00:01,000 --> 00:00:02,000\nsecond 2\n\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nsecond 1\n\n"
            "00:00:01.000 --> 00:00:02.000\nsecond 2\n\n",
        ),
    ],
)
def test_the_official_client_gets_plain_text(sdk: openai.OpenAI, form: Any, body: str) -> None:
    answer: Any = sdk.audio.transcriptions.create(
        model=MODEL, file=("a.wav", audio_files.wav(2)), response_format=form
    )
    assert answer == body


def test_the_official_client_streams(sdk: openai.OpenAI) -> None:
    events = list(
        sdk.audio.transcriptions.create(model=MODEL, file=("a.wav", audio_files.wav(3)), stream=True)
    )
    kinds = [event.type for event in events]
    assert kinds == [*["transcript.text.delta"] * 3, "transcript.text.done"]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert deltas == ["second 1", " second 2", " second 3"]
    last = events[-1]
    assert last.type == "transcript.text.done"
    assert last.text == "".join(deltas)


def test_the_official_client_sees_what_was_wrong(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.audio.transcriptions.create(model=MODEL, file=("a.wav", b"no recording"))
    assert (refused.value.param, refused.value.code) == ("file", "invalid_audio")
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.audio.transcriptions.create(model="someone/else", file=("a.wav", audio_files.wav()))
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")


# The wire.


@pytest.mark.parametrize("model", [MODEL, ALIAS, "", None])
async def test_the_model_may_be_named_by_id_or_alias_or_not_at_all(
    http: httpx.AsyncClient, model: str | None
) -> None:
    data = {} if model is None else {"model": model}
    assert (await http.post(PATH, data=data, files=upload())).status_code == 200


@pytest.mark.parametrize("file_first", [True, False])
async def test_the_file_may_come_first_or_last_and_without_a_length(
    http: httpx.AsyncClient, worker: Worker, file_first: bool
) -> None:
    part = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="voice"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + audio_files.wav(1) + b"\r\n"
    )
    fields = b'--x\r\nContent-Disposition: form-data; name="language"\r\n\r\nes\r\n'

    async def chunks() -> AsyncIterator[bytes]:
        whole = (part + fields if file_first else fields + part) + b"--x--\r\n"
        for start in range(0, len(whole), 1000):
            yield whole[start : start + 1000]

    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = await http.post(PATH, content=chunks(), headers=headers)
    assert response.json()["text"] == "second 1"
    assert worker.engine.requests[0].language == "es"
    assert "content-length" not in response.request.headers


async def test_the_engine_hears_samples_and_wishes(http: httpx.AsyncClient, worker: Worker) -> None:
    data = {"language": "German", "prompt": "names", "temperature": "0.4", "response_format": "srt"}
    await http.post(PATH, data=data, files=upload())
    [asked] = worker.engine.requests
    assert asked.audio.shape == (2 * 16_000,)
    assert (asked.language, asked.prompt, asked.temperature, asked.timestamps) == ("de", "names", 0.4, True)
    assert worker.usage.seconds == [2.0]


async def test_silence_is_an_empty_text_and_no_error(http: httpx.AsyncClient) -> None:
    response = await http.post(PATH, files=upload(audio_files.silence(2)))
    assert response.json()["text"] == ""
    streamed = await http.post(PATH, files=upload(audio_files.silence(2)), data={"stream": "true"})
    kinds = [event if isinstance(event, str) else event["type"] for event in events_of(streamed.text)]
    assert kinds == ["transcript.text.done", "[DONE]"]


@pytest.mark.parametrize(
    ("data", "files", "status", "param"),
    [
        ({}, {"other": ("a.wav", b"x")}, 400, "file"),
        ({"file": "not an upload"}, {"image": ("a.png", b"x")}, 400, "file"),
        ({}, upload(b""), 400, "file"),
        ({}, upload(audio_files.silent_video(), "a.mp4"), 400, "file"),
        ({"language": "klingon"}, upload(), 400, "language"),
        ({"temperature": "2"}, upload(), 400, "temperature"),
        ({"response_format": "diarized_json"}, upload(), 400, "response_format"),
        ({**VERBOSE, "timestamp_granularities": "minute"}, upload(), 400, "timestamp_granularities"),
        ({"stream": "true", "response_format": "vtt"}, upload(), 400, "stream"),
        ({"prompt": "x" * 2000}, upload(), 400, "prompt"),
        ({"model": "someone/else"}, upload(), 404, "model"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    http: httpx.AsyncClient, worker: Worker, data: dict[str, str], files: Any, status: int, param: str
) -> None:
    response = await http.post(PATH, data=data, files=files)
    assert response.status_code == status
    assert error_of(response)["param"] == param
    assert worker.engine.requests == []
    assert (await http.post(PATH, files=upload())).status_code == 200


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'{"file": "a"}', "application/json"),
        (b"file=a", "application/x-www-form-urlencoded"),
        (b"", "multipart/form-data"),
        (b"garbage", "multipart/form-data; boundary=x"),
        pytest.param(
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut',
            "multipart/form-data; boundary=x",
            # Starlette leaves the half-read part's file to the garbage collector.
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    http: httpx.AsyncClient, content: bytes, content_type: str
) -> None:
    response = await http.post(PATH, content=content, headers={"content-type": content_type})
    assert response.status_code == 400
    assert error_of(response)["param"] == "file"


async def test_a_file_over_the_limit_is_413(worker: Worker) -> None:
    async with worker.client(AudioLimits(max_file_bytes=50_000)) as http:
        assert (await http.post(PATH, files=upload(audio_files.wav(1)))).status_code == 200
        response = await http.post(PATH, files=upload(audio_files.wav(2)))
    assert response.status_code == 413
    assert error_of(response)["param"] == "file"


async def test_a_body_over_the_limit_is_413_even_without_a_length(worker: Worker) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(50):
            sent += 2**20
            yield bytes(2**20)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    async with worker.client(max_body_bytes=3 * 2**20) as http:
        response = await http.post(PATH, content=endless(), headers=headers)
    assert response.status_code == 413
    assert "limit" in error_of(response)["message"]
    assert sent <= 4 * 2**20


async def test_a_long_recording_is_refused_before_it_is_transcribed(worker: Worker) -> None:
    async with worker.client(AudioLimits(max_duration_s=1.5)) as http:
        response = await http.post(PATH, files=upload())
    assert (response.status_code, error_of(response)["param"]) == (400, "file")
    assert worker.engine.requests == []


async def test_too_much_audio_at_once_is_429_and_room_comes_back(worker: Worker) -> None:
    worker.gate = asyncio.Event()
    async with worker.client(AudioLimits(max_held_s=3)) as http:
        first = asyncio.create_task(http.post(PATH, files=upload()))
        await worker.at_gate.wait()
        refused = await http.post(PATH, files=upload())
        worker.gate.set()
        assert (await first).status_code == 200
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) <= 120
        assert (await http.post(PATH, files=upload())).status_code == 200


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_a_full_queue_is_a_plain_429_streamed_or_not(worker: Worker, stream: str) -> None:
    class Full(FakeTranscriber):
        async def transcribe(self, request: Any) -> Any:
            for item in self.requests:
                yield item
            raise TooManyRequests("full", retry_after_s=1)

    worker.engine = Full(EngineOptions())
    async with worker.client() as http:
        response = await http.post(PATH, files=upload(), data={"stream": stream})
    assert (response.status_code, error_of(response)["code"]) == (429, "rate_limit_exceeded")


async def test_a_model_that_still_loads_is_503() -> None:
    def loading() -> Transcriber:
        raise Unavailable("loading, 40 %", retry_after_s=1)

    ready = context_for(FakeTranscriber(EngineOptions()), ModelType.TRANSCRIPTION)
    context = RouteContext(engine=loading, model=ready.model, max_body_bytes=2**20)
    transport = httpx.ASGITransport(app_with(router(context)))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        response = await http.post(PATH, files=upload())
    assert response.status_code == 503
    assert "40 %" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [(Unavailable("stopping"), "service_unavailable"), (ValueError("secret"), "internal_error")],
)
async def test_a_stream_that_breaks_ends_with_an_error_and_is_cut_off(
    worker: Worker, failure: Exception, code: str
) -> None:
    worker.failure = failure
    app = app_with(router(context_for(worker.engine, ModelType.TRANSCRIPTION, worker.usage)))
    body = bytearray()

    async def read(http: httpx.AsyncClient) -> None:
        async with http.stream("POST", PATH, files=upload(), data={"stream": "true"}) as response:
            async for piece in response.aiter_bytes():
                body.extend(piece)

    with run_server(app) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await read(http)
    first, last = events_of(body.decode())
    assert first == {"type": "transcript.text.delta", "delta": "second 1"}
    assert last["error"]["code"] == code
    assert b"secret" not in body
    assert worker.usage.seconds == [1.0]


# Clients that leave.


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_a_client_that_leaves_stops_the_work(stream: str) -> None:
    left = asyncio.Event()
    loop = asyncio.get_running_loop()
    at_gate = asyncio.Event()

    class Watched(FakeTranscriber):
        async def transcribe(self, request: Any) -> Any:
            try:
                async for item in super().transcribe(request):
                    yield item
            finally:
                loop.call_soon_threadsafe(left.set)

    async def wait_at_second(number: int) -> None:
        if number == 2:
            loop.call_soon_threadsafe(at_gate.set)
            await asyncio.Event().wait()

    engine = Watched(EngineOptions(), before_segment=wait_at_second)
    usage = RememberedUsage()
    app = app_with(router(context_for(engine, ModelType.TRANSCRIPTION, usage)))
    with run_server(app) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            request = asyncio.create_task(http.post(PATH, files=upload(), data={"stream": stream}))
            await asyncio.wait_for(at_gate.wait(), 10)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            await asyncio.wait_for(left.wait(), 5)
    assert usage.seconds == [1.0]
