"""Recordings in the form of Hugging Face's inference API, as Chat UI's microphone sends them."""

from collections.abc import AsyncIterator
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

import httpx
import pytest

from msp_common.contracts.model_type import ModelType
from support.fake_worker import Exchange, FakeWorker, answers
from support.gateway_cluster import serving_gateway, worker

SPEECH = "openai/whisper-base"
ANSWERS = answers(200, {"text": "hello"})
RECORDING = bytes(range(256)) * 1000 + b"\r\n--\r\n"


def parts_of(exchange: Exchange) -> dict[str, Message]:
    """The fields of the form that a worker got, by name."""
    head = f"content-type: {exchange.headers['content-type']}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + exchange.body)
    return {str(part.get_param("name", header="content-disposition")): part for part in form.iter_parts()}


async def test_a_recording_becomes_a_transcription_request() -> None:
    async with FakeWorker(ANSWERS) as one:
        with serving_gateway(worker("one", SPEECH, ModelType.TRANSCRIPTION, url=one.url)) as gateway:
            async with httpx.AsyncClient() as client:
                answer = await client.post(
                    f"{gateway.url}/hf-inference/models/{SPEECH}",
                    content=RECORDING,
                    headers={"content-type": "audio/webm;codecs=opus", "authorization": "Bearer sk"},
                )
    assert (answer.status_code, answer.json()) == (200, {"text": "hello"})
    assert one.seen[0].path == "/v1/audio/transcriptions"
    parts = parts_of(one.seen[0])
    assert parts["model"].get_payload(decode=True) == SPEECH.encode()
    assert parts["file"].get_payload(decode=True) == RECORDING
    assert (parts["file"].get_filename(), parts["file"].get_content_type()) == (
        "recording.webm",
        "audio/webm",
    )


async def test_a_recording_of_unknown_length_and_an_alias_do_as_well() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(RECORDING), 10_000):
            yield RECORDING[start : start + 10_000]

    async with FakeWorker(ANSWERS) as one:
        with serving_gateway(worker("one", SPEECH, ModelType.TRANSCRIPTION, url=one.url)) as gateway:
            async with httpx.AsyncClient() as client:
                answer = await client.post(
                    f"{gateway.url}/hf-inference/models/whisper-1",
                    content=pieces(),
                    headers={"content-type": "audio/mpeg"},
                )
    assert answer.status_code == 200
    parts = parts_of(one.seen[0])
    assert parts["model"].get_payload(decode=True) == SPEECH.encode()
    assert parts["file"].get_payload(decode=True) == RECORDING
    assert parts["file"].get_filename() == "recording.mp3"


@pytest.mark.parametrize(
    ("method", "path", "media_type", "status", "code"),
    [
        ("GET", SPEECH, "audio/webm", 405, "method_not_allowed"),
        ("POST", "", "audio/webm", 404, "not_found"),
        ("POST", "a/b/c", "audio/webm", 404, "not_found"),
        ("POST", "..%2Fx", "audio/webm", 404, "not_found"),
        ("POST", SPEECH, "application/json", 400, "invalid_value"),
        ("POST", SPEECH, 'audio/"x', 400, "invalid_value"),
        ("POST", "org/nobody", "audio/webm", 404, "model_not_found"),
    ],
)
async def test_what_is_no_such_request_is_refused_in_the_envelope(
    method: str, path: str, media_type: str, status: int, code: str
) -> None:
    async with FakeWorker(ANSWERS) as one:
        with serving_gateway(worker("one", SPEECH, ModelType.TRANSCRIPTION, url=one.url)) as gateway:
            async with httpx.AsyncClient() as client:
                answer = await client.request(
                    method,
                    f"{gateway.url}/hf-inference/models/{path}",
                    content=b"x",
                    headers={"content-type": media_type},
                )
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-request-id"]
    assert one.seen == []


async def test_a_recording_over_the_limit_is_refused() -> None:
    with serving_gateway(worker("one", SPEECH, ModelType.TRANSCRIPTION), max_body_bytes=1024) as gateway:
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{gateway.url}/hf-inference/models/{SPEECH}",
                content=b"x" * 1024,
                headers={"content-type": "audio/webm"},
            )
    assert answer.status_code == 413
