"""Responses of a worker whose engine is an external server: passed on where that server has them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from msp_common.contracts.model_type import ModelType
from support.external_servers import Serving, serving, without_life
from support.responses_talk import PATH
from support.servers import run_server

CHAT_PATHS = ["/v1/chat/completions", "/v1/completions"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def worker(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("worker"), "--responses") as ready:
        yield ready


def counted(page: str, kind: str) -> float:
    [line] = [one for one in page.splitlines() if one.startswith(f'msp_worker_tokens_total{{kind="{kind}"')]
    return float(line.split()[1])


async def test_only_a_server_that_has_the_path_is_said_to_answer_it(worker: Serving, tmp_path: Path) -> None:
    assert worker.engine.capabilities().paths == [*CHAT_PATHS, PATH]
    async with serving(tmp_path) as other:
        assert other.engine.capabilities().paths == CHAT_PATHS
        answer = await other.http.post(PATH, json={"input": "hi"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert other.asked() == []


async def test_an_embedding_server_is_not_even_asked(tmp_path: Path) -> None:
    async with serving(tmp_path, "--responses", type=ModelType.EMBEDDING) as other:
        assert other.engine.capabilities().paths == ["/v1/embeddings"]


async def test_a_response_passes_with_our_name_of_the_model_and_is_counted(worker: Serving) -> None:
    before = (await worker.http.get("/metrics")).text
    answer = await worker.http.post(PATH, json={"model": "nick", "input": "hi", "new_field": 1})
    assert (answer.status_code, answer.json()["model"]) == (200, "org/model")
    assert json.loads(worker.asked()[-1]["body"]) == {
        "model": "/models/secret-place@main",
        "input": "hi",
        "new_field": 1,
    }
    after = (await worker.http.get("/metrics")).text
    assert counted(after, "prompt") - counted(before, "prompt") == 5
    assert counted(after, "completion") - counted(before, "completion") == 2


async def test_a_stream_passes_event_by_event_and_is_counted(worker: Serving) -> None:
    before = (await worker.http.get("/metrics")).text
    answer = await worker.http.post(PATH, json={"input": "hi", "stream": True})
    *frames, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert [frame.split("\n")[0] for frame in frames] == [
        "event: response.created",
        "event: response.output_text.delta",
        "event: response.output_text.delta",
        "event: response.output_item.done",
        "event: response.completed",
    ]
    told = [json.loads(frame.split("\ndata: ")[1]) for frame in frames]
    assert {one["response"]["model"] for one in told if "response" in one} == {"org/model"}
    assert "secret" not in answer.text
    after = (await worker.http.get("/metrics")).text
    assert counted(after, "prompt") - counted(before, "prompt") == 5
    assert counted(after, "completion") - counted(before, "completion") == 2


async def test_a_stream_that_ends_before_its_last_event_is_an_error(worker: Serving) -> None:
    before = (await worker.http.get("/metrics")).text
    with (
        run_server(without_life(worker.app)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client,
    ):
        heard = []

        def listen() -> None:
            for event in client.responses.create(input="end early", stream=True):
                heard.append(event.type)

        with pytest.raises(openai.APIError, match="ended its answer early"):
            await asyncio.to_thread(listen)
    assert heard[-1] == "response.output_item.done"
    after = (await worker.http.get("/metrics")).text
    assert counted(after, "completion") - counted(before, "completion") == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "mcp", "server_url": "http://inside"}]}, "tools.0.type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"id": "x"}]}, "input.0.type"),
        ({"input": ["hi"]}, "input.0"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://inside"}]}]},
            "input.0.content.0.image_url",
        ),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "call_id": "c",
                        "output": [{"type": "input_file", "file_url": "file:///etc/passwd"}],
                    }
                ]
            },
            "input.0.output.0.file_url",
        ),
    ],
)
async def test_what_asks_for_state_or_leads_outside_does_not_reach_the_server(
    worker: Serving, body: dict[str, Any], param: str
) -> None:
    asked = len(worker.asked())
    answer = await worker.http.post(PATH, json={"input": "hi", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert len(worker.asked()) == asked


async def test_a_key_that_stands_twice_is_refused(worker: Serving) -> None:
    answer = await worker.http.post(PATH, content=b'{"input": "a", "input": "b"}')
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


async def test_words_pass_whatever_they_look_like(worker: Serving) -> None:
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": "http://inside"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "file:///x"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"url": "http://inside"}'},
        {"type": "function_call_output", "call_id": "c", "output": "http://inside"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]},
    ]
    answer = await worker.http.post(PATH, json={"input": said})
    assert answer.status_code == 200, answer.text
