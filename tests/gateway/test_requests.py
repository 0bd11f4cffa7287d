"""What clients may send: heads, forms, bodies that are too large, and mistakes."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from msp_common.contracts.model_type import ModelType
from support.fake_worker import FakeWorker, answers
from support.gateway_cluster import LLM, Cluster, serving_gateway, worker

CHAT = "/v1/chat/completions"
SPEECH = "/v1/audio/transcriptions"
JSON = {"content-type": "application/json"}


async def send(gateway: Cluster, method: str, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.request(method, f"{gateway.url}{path}", **options)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"Hello!", "invalid_json", None),
        (b'{"model": "org/chat"', "invalid_json", None),
        (b'{"model": "org/chat"} x', "invalid_json", None),
        (b"[1, 2]", "invalid_json", None),
        (b'"text"', "invalid_json", None),
        (b'{"model": 7}', "invalid_value", "model"),
        (b'{"model": ["org/chat"]}', "invalid_value", "model"),
        (b'{"stream": "yes"}', "invalid_value", "stream"),
        (b"[" * 100_000, "invalid_json", None),
        (b'{"a":' * 100_000, "invalid_json", None),
        (b'{"model": "\xff"}', "invalid_value", "model"),
    ],
)
async def test_what_is_no_request_is_refused_in_the_envelope(
    body: bytes, code: str, param: str | None
) -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            answer = await send(gateway, "POST", CHAT, content=body, headers=JSON)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    assert answer.headers["x-request-id"]
    assert one.seen == []


async def test_unknown_models_and_wrong_kinds_are_told_apart() -> None:
    with serving_gateway(worker("a"), worker("e", "org/emb", ModelType.EMBEDDING)) as gateway:
        unknown = await send(gateway, "POST", CHAT, json={"model": "nobody"})
        wrong = await send(gateway, "POST", CHAT, json={"model": "org/emb"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "model")
    assert "embedding" in wrong.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("OPTIONS", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("POST", CHAT + "/", 404),
        ("POST", "/v1/v1/chat/completions", 404),
        ("POST", "/v1/moderations", 404),
        ("GET", "/v1/responses/resp_1", 404),
        ("DELETE", "/v1/responses/resp_1", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/", 404),
    ],
)
async def test_unknown_paths_and_methods_are_refused_in_the_envelope(
    method: str, path: str, status: int
) -> None:
    with serving_gateway(worker("a")) as gateway:
        answer = await send(gateway, method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


async def fifty_megabytes() -> AsyncIterator[bytes]:
    for _ in range(50):
        yield b"x" * 1024 * 1024


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", [CHAT, SPEECH])
async def test_a_body_of_fifty_megabytes_is_refused(announced: bool, path: str) -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url)) as gateway:
            headers = {"content-type": "multipart/form-data; boundary=b"}
            if announced:
                headers["content-length"] = str(50 * 1024 * 1024)
            # A form's parser must not stumble over the bytes before their number is too large.
            start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'

            async def body() -> AsyncIterator[bytes]:
                if not announced:
                    yield start
                async for chunk in fifty_megabytes():
                    yield chunk

            answer = await send(gateway, "POST", path, content=body(), headers=headers)
            after = await send(gateway, "POST", CHAT, json={})
    assert answer.status_code == 413
    assert answer.json()["error"]["param"] == "body"
    assert answer.headers["x-request-id"]
    assert after.status_code == 200


AUDIO = bytes(random.Random(1).randbytes(3_000_000)) + b"\r\n--not-the-boundary\r\n"
WHISPER = "org/whisper"


def speech_worker(fake: FakeWorker, **options: Any) -> Any:
    return worker("s", WHISPER, ModelType.TRANSCRIPTION, url=fake.url, **options)


def form(*fields: tuple[str, str | None, bytes], boundary: bytes = b"b0undary") -> dict[str, Any]:
    """A form with these (name, filename, value), in this order."""
    body = b""
    for name, filename, value in fields:
        file = f'; filename="{filename}"\r\nContent-Type: application/octet-stream' if filename else ""
        head = f'Content-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += b"--" + boundary + b"\r\n" + head + value + b"\r\n"
    body += b"--" + boundary + b"--\r\n"
    content_type = f"multipart/form-data; boundary={boundary.decode()}"
    return {"content": body, "headers": {"content-type": content_type}}


TRANSCRIBES = answers(200, {"text": "one two"})
FILE = ("file", "a.wav", AUDIO)


@pytest.mark.parametrize("path", [SPEECH, "/v1/audio/translations"])
async def test_a_form_goes_on_unchanged_with_the_file_first_and_the_model_last(path: str) -> None:
    async with FakeWorker(TRANSCRIBES) as one:
        with serving_gateway(speech_worker(one), worker("a")) as gateway:
            sent = form(FILE, ("language", None, b"en"), ("model", None, WHISPER.encode()))
            answer = await send(gateway, "POST", path, **sent)
    assert answer.json() == {"text": "one two"}
    assert one.seen[0].path == path
    assert one.seen[0].body == sent["content"]
    assert one.seen[0].headers["content-type"] == sent["headers"]["content-type"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([FILE], id="absent"),
        pytest.param([FILE, ("model", None, b"")], id="empty, last"),
        pytest.param([("model", None, b""), FILE], id="empty, first"),
        pytest.param([("model", None, b"whisper-1"), FILE], id="alias, first"),
        pytest.param([FILE, ("model", None, b"whisper-1")], id="alias, last"),
    ],
)
async def test_the_models_id_is_written_into_a_form_that_names_it_otherwise(
    fields: list[tuple[str, str | None, bytes]],
) -> None:
    async with FakeWorker(TRANSCRIBES) as one:
        with serving_gateway(speech_worker(one, aliases=["whisper-1"])) as gateway:
            answer = await send(gateway, "POST", SPEECH, **form(*fields))
    assert answer.status_code == 200
    model = ("model", None, WHISPER.encode())
    named = [model if name == "model" else (name, file, value) for name, file, value in fields]
    assert one.seen[0].body == form(*(named if len(named) == 2 else [model, *named]))["content"]


async def test_a_file_called_model_is_not_the_model() -> None:
    async with FakeWorker(TRANSCRIBES) as one:
        with serving_gateway(speech_worker(one)) as gateway:
            answer = await send(
                gateway,
                "POST",
                SPEECH,
                **form(("model", "m.bin", b"nobody"), ("model", None, WHISPER.encode())),
            )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("options", "param"),
    [
        pytest.param({"json": {"model": WHISPER}}, None, id="JSON"),
        pytest.param(
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, None, id="no boundary"
        ),
        pytest.param({**form(FILE), "content": b"nonsense"}, None, id="no form"),
        pytest.param({**form(FILE), "content": form(FILE)["content"][:-20]}, None, id="cut"),
        pytest.param({**form(FILE), "content": b""}, None, id="empty"),
        pytest.param(form(("model", None, b"a"), ("model", None, b"b")), "model", id="two models"),
        pytest.param(form(("model", None, b"m" * 2000)), "model", id="long model"),
        pytest.param(form(("model", None, b"\xff")), "model", id="no text"),
        pytest.param(form(FILE, boundary=b"b" * 300), None, id="long boundary"),
    ],
)
async def test_what_is_no_form_is_refused_in_the_envelope(options: dict[str, Any], param: str | None) -> None:
    async with FakeWorker(TRANSCRIBES) as one:
        with serving_gateway(speech_worker(one)) as gateway:
            answer = await send(gateway, "POST", SPEECH, **options)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert one.seen == []


async def test_the_official_client_uploads_and_fails_over_with_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(AUDIO)
    busy = answers(503, {}, {"retry-after": "1"})
    async with FakeWorker(busy, TRANSCRIBES) as one:
        with serving_gateway(
            speech_worker(one), speech_worker(one).model_copy(update={"id": "t"})
        ) as gateway:
            async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0) as client:
                answer = await client.audio.transcriptions.create(model=WHISPER, file=tmp_path / "a.wav")
    assert answer.text == "one two"
    assert AUDIO in one.seen[1].body
    assert one.seen[0].body == one.seen[1].body


async def test_embeddings_go_to_the_embedding_model() -> None:
    vector = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "m",
    }
    async with FakeWorker(answers(200, vector)) as one:
        with serving_gateway(
            worker("e", "org/emb", ModelType.EMBEDDING, url=one.url), worker("a")
        ) as gateway:
            async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0) as client:
                answer = await client.embeddings.create(model="org/emb", input="hi")
    assert answer.data[0].embedding == [0.5]
    assert one.seen[0].json == {"input": "hi", "model": "org/emb", "encoding_format": "base64"}


async def test_an_alias_is_replaced_and_all_other_values_stay_byte_for_byte() -> None:
    async with FakeWorker() as one:
        with serving_gateway(worker("one", url=one.url, aliases=["gpt-4o-mini"])) as gateway:
            raw = b'{"n": 123456789012345678901, "model": "gpt-4o-mini", "x": {"y": 1.0e5 }, "t": "\\u00e9"}'
            answer = await send(gateway, "POST", CHAT, content=raw, headers=JSON)
    assert answer.json()["model"] == LLM
    body = one.seen[0].body
    assert json.loads(body)["model"] == LLM
    for value in (b"123456789012345678901", b'{"y": 1.0e5 }', b'"\\u00e9"'):
        assert value in body
