"""What a client sees of a worker whose engine is an external server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from msp_common.contracts.model_type import ModelType
from support.external_servers import Serving, say, serving, until, without_life
from support.servers import run_server

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def worker(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("worker")) as ready:
        yield ready


async def test_an_answer_passes_with_our_name_of_the_model_and_all_else_unchanged(worker: Serving) -> None:
    raw = b'{"model": "nick", "messages": [{"role":"user","content":"hi"}], "seed": 1e2, "x_new": {"a" : 1}}'
    answer = await worker.http.post(CHAT, content=raw)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "org/model"
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    assert '"kept":1.5' in answer.text.replace(" ", "")
    sent = worker.asked()[-1]
    assert '"seed":1e2' in sent["body"]
    assert '"x_new":{"a" : 1}' in sent["body"]
    assert json.loads(sent["body"])["model"] == "/models/secret-place@main"
    assert "req_" + sent["headers"]["x-request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("9F6C7B1E-8a52-4a3c-9d2e-0123456789ab", "9F6C7B1E-8a52-4a3c-9d2e-0123456789ab"),
        ("req_9f6c7b1e8a524a3c9d2e0123456789ab", "9f6c7b1e8a524a3c9d2e0123456789ab"),
        ("my-own.id", None),
    ],
)
async def test_a_server_is_told_ids_of_the_form_that_all_servers_take(
    worker: Serving, ours: str, theirs: str | None
) -> None:
    await worker.http.post(CHAT, json=say("hi"), headers={"x-request-id": ours})
    assert worker.asked()[-1]["headers"].get("x-request-id") == theirs


async def test_a_stream_passes_event_by_event_and_ends_with_done(worker: Serving) -> None:
    answer = await worker.http.post(CHAT, json=say("hi", stream=True))
    events = [line for line in answer.text.split("\n\n") if line]
    assert events[0] == ": still here"
    chunks = [json.loads(line.removeprefix("data: ")) for line in events[1:-1]]
    assert events[-1] == "data: [DONE]"
    assert [c["choices"][0]["delta"].get("content") for c in chunks] == ["Hel", "lo", None]
    assert {c["model"] for c in chunks} == {"org/model"}
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_usage_of_a_stream_is_counted_also_where_the_client_did_not_ask_for_it(worker: Serving) -> None:
    def counted(page: str, kind: str) -> float:
        [line] = [
            one for one in page.splitlines() if one.startswith(f'msp_worker_tokens_total{{kind="{kind}"')
        ]
        return float(line.split()[1])

    before = (await worker.http.get("/metrics")).text
    silent = await worker.http.post(CHAT, json=say("hi", stream=True))
    asked = await worker.http.post(
        CHAT, json=say("hi", stream=True, stream_options={"include_usage": True, "other": 1})
    )
    after = (await worker.http.get("/metrics")).text
    assert '"usage"' not in silent.text
    assert '"completion_tokens":2' in asked.text.replace(" ", "")
    assert json.loads(worker.asked()[-1]["body"])["stream_options"] == {"include_usage": True, "other": 1}
    assert counted(after, "prompt") - counted(before, "prompt") == 14
    assert counted(after, "completion") - counted(before, "completion") == 4


async def test_a_server_that_never_says_done_is_completed_after_its_finish_reason(worker: Serving) -> None:
    answer = await worker.http.post(CHAT, json=say("no done", stream=True))
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "error" not in answer.text


@pytest.mark.parametrize(
    ("said", "status", "code", "param"),
    [
        ("400", 400, "invalid_value", "top_k"),
        ("context", 400, "context_length_exceeded", None),
        ("422", 400, "invalid_value", "temperature"),
        ("401", 502, "upstream_failed", None),
        ("404", 502, "upstream_failed", None),
        ("429", 429, "rate_limit_exceeded", None),
        ("500", 502, "upstream_failed", None),
        ("503", 503, "service_unavailable", None),
        ("garbage", 502, "upstream_failed", None),
        ("garbage first", 502, "upstream_failed", None),
        ("no http", 502, "upstream_failed", None),
        ("reset", 502, "upstream_failed", None),
    ],
)
async def test_errors_come_in_our_envelope(
    worker: Serving, said: str, status: int, code: str, param: str | None
) -> None:
    answer = await worker.http.post(CHAT, json=say(said, stream=said == "garbage first"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert set(error) == {"message", "type", "param", "code"}
    assert "secret" not in answer.text
    if said == "429":
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("said", ["end early", "garbage event", "error event"])
async def test_a_stream_that_fails_ends_in_an_error_and_without_done(worker: Serving, said: str) -> None:
    with (
        run_server(without_life(worker.app)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="-") as client,
    ):
        words = []

        def listen() -> None:
            for chunk in client.chat.completions.create(**say(said), stream=True):
                words.append(chunk.choices[0].delta.content)

        with pytest.raises(openai.APIError) as caught:
            await asyncio.to_thread(listen)
    assert words == ["Once"]
    assert "server" in caught.value.message
    assert "blocks" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"", None),
        (b"[1]", None),
        (b"{", None),
        (b'{"model": 1}', "model"),
        (b'{"stream": "yes"}', "stream"),
        (b'{"stream": true, "stream_options": 3}', "stream_options"),
    ],
)
async def test_what_cannot_be_read_never_reaches_the_server(
    worker: Serving, content: bytes, param: str | None
) -> None:
    before = len(worker.asked())
    answer = await worker.http.post(CHAT, content=content)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert len(worker.asked()) == before


async def test_another_model_is_not_found(worker: Serving) -> None:
    answer = await worker.http.post(CHAT, json={**say("hi"), "model": "org/other"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("said", ["linger", "think"])
async def test_a_client_that_leaves_takes_its_request_from_the_server(tmp_path: Path, said: str) -> None:
    async with serving(tmp_path) as worker:
        with run_server(without_life(worker.app)) as url:
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                asking = asyncio.create_task(http.post(CHAT, json=say(said, stream=said == "linger")))
                await until(worker.asked)
                assert worker.engine.load_now().in_flight == 1
                asking.cancel()
                await asyncio.wait([asking])
            await until(lambda: worker.saw("gone"))
            await until(lambda: worker.engine.load_now().in_flight == 0)


async def test_a_client_that_does_not_read_holds_the_server_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as worker:
        with run_server(without_life(worker.app)) as url:
            async with (
                httpx.AsyncClient(base_url=url, timeout=30) as http,
                http.stream("POST", CHAT, json=say("pour", stream=True)) as answer,
            ):
                assert answer.status_code == 200
                await until(lambda: worker.saw("poured"))
            await until(lambda: worker.saw("gone"))


async def test_requests_beyond_the_slots_count_as_queued_and_beyond_the_queue_are_refused(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, slots=1, max_queued=1) as worker:
        asking = [asyncio.create_task(worker.http.post(CHAT, json=say("think"))) for _ in range(2)]
        await until(lambda: worker.engine.load_now().queued == 1)
        lease = worker.bench.worker.describe()
        assert (lease.load.in_flight, lease.load.queued, lease.load.slots) == (1, 1, 1)
        refused = await worker.http.post(CHAT, json=say("hi"))
        assert refused.status_code == 429
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        assert worker.engine.load_now().in_flight == 0
        assert (await worker.http.post(CHAT, json=say("hi"))).status_code == 200


async def test_names_that_are_the_same_leave_every_byte_as_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path, "--name", "org/model") as worker:
        raw = b'{ "model":"org/model" , "messages":[{"role":"user","content":"hi"}]}'
        await worker.http.post(CHAT, content=raw)
        assert worker.asked()[-1]["body"].encode() == raw


async def test_an_embedding_server_is_passed_on_at_its_own_path(tmp_path: Path) -> None:
    async with serving(tmp_path, type=ModelType.EMBEDDING) as worker:
        answer = await worker.http.post("/v1/embeddings", json={"input": "hi"})
        assert answer.json()["model"] == "org/model"
        assert worker.asked()[-1]["path"] == "/v1/embeddings"
        assert (await worker.http.post(CHAT, json=say("hi"))).status_code == 400


async def test_key_and_base_path_are_the_servers(tmp_path: Path) -> None:
    async with serving(tmp_path, "--base", "/api/v3", base_path="/api/v3", api_key="sesame") as worker:
        headers = {"Authorization": "Bearer clients-own", "Cookie": "a=b"}
        assert (await worker.http.post(CHAT, json=say("hi"), headers=headers)).status_code == 200
        [sent] = worker.asked()
        assert sent["path"] == "/api/v3/chat/completions"
        assert sent["headers"]["authorization"] == "Bearer sesame"
        assert "cookie" not in sent["headers"]


async def test_a_recording_is_passed_on_with_every_field_in_its_order(tmp_path: Path) -> None:
    path = "/v1/audio/transcriptions"
    wav = b"RIFF\x00\xff\r\n--boundary\r\n"
    async with serving(tmp_path, type=ModelType.TRANSCRIPTION) as worker:
        fields = {
            "model": "nick",
            "language": "en",
            "timestamp_granularities[]": ["word", "segment"],
            "new": "x",
        }
        answer = await worker.http.post(path, data=fields, files={"file": ("../../a.wav", wav, "audio/wav")})
        assert answer.json()["text"] == "seven"
        [sent] = worker.asked()
        body = sent["body"].encode("latin-1")
        assert wav in body
        assert b"nick" not in body
        assert b".." not in body
        assert b'filename="file.wav"' in body
        names = [part.split(b'"')[1] for part in body.split(b"Content-Disposition: form-data; name=")[1:]]
        granularity = b"timestamp_granularities[]"
        assert names == [b"model", b"language", granularity, granularity, b"new", b"file"]
        assert b"\r\n\r\n/models/secret-place@main\r\n" in body
        assert "msp_worker_audio_seconds_total 1.5" in (await worker.http.get("/metrics")).text

        as_vtt = await worker.http.post(path, data={"response_format": "vtt"}, files={"file": b"x"})
        assert (as_vtt.text, as_vtt.headers["content-type"]) == ("WEBVTT\n", "text/vtt; charset=utf-8")
        garbage = await worker.http.post(path, data={"response_format": "html"}, files={"file": b"x"})
        assert garbage.status_code == 502
        streamed = await worker.http.post(path, data={"stream": "true"}, files={"file": b"x"})
        assert streamed.text.endswith("data: [DONE]\n\n")
        no_forms: list[dict[str, Any]] = [{"data": {"model": "nick"}}, {"content": b"x"}, {"json": {}}]
        for broken in no_forms:
            refused = await worker.http.post(path, **broken)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "file")
