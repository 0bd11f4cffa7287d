"""`/v1/embeddings` as clients use it, with an engine that needs no model."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from msp_common.contracts.model_type import ModelType
from msp_common.errors import TooManyRequests
from msp_model_service.engines.embedder import TokenIds, VectorForm
from msp_model_service.engines.fake_embedder import FakeEmbedder
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.routes.embeddings import router
from support.one_route_app import ALIAS, MODEL, RememberedUsage, app_with, context_for
from support.servers import run_server

PATH = "/v1/embeddings"


def client_of(engine: FakeEmbedder, usage: RememberedUsage | None = None) -> httpx.AsyncClient:
    app = app_with(router(context_for(engine, ModelType.EMBEDDING, usage)), max_body_bytes=2**20)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://worker")


@pytest.fixture
def usage() -> RememberedUsage:
    return RememberedUsage()


@pytest.fixture
async def http(usage: RememberedUsage) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(FakeEmbedder(EngineOptions()), usage) as client:
        yield client


@pytest.fixture
def sdk() -> Iterator[openai.OpenAI]:
    """The official client, against a real server."""
    app = app_with(router(context_for(FakeEmbedder(EngineOptions()), ModelType.EMBEDDING)))
    with (
        run_server(app) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_the_official_client_gets_the_same_by_default_and_as_floats(sdk: openai.OpenAI) -> None:
    texts = ["a red apple", "a green apple", "the stock market"]
    default = sdk.embeddings.create(model=MODEL, input=texts)
    floats = sdk.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert [item.index for item in default.data] == [0, 1, 2]
    first, second = (np.array([item.embedding for item in answer.data]) for answer in (default, floats))
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert first[0] @ first[1] > 0.5 > abs(first[0] @ first[2])
    assert default.usage == floats.usage


def test_the_official_client_sees_which_input_was_wrong(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.embeddings.create(model=MODEL, input=["a", "", "c"])
    assert refused.value.param == "input.1"


async def test_base64_is_little_endian_float32(http: httpx.AsyncClient) -> None:
    body = {"input": "hello", "encoding_format": "base64"}
    encoded = (await http.post(PATH, json=body)).json()["data"][0]["embedding"]
    plain = (await http.post(PATH, json={"input": "hello"})).json()["data"][0]["embedding"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(encoded), "<f4"), plain, atol=1e-6)


async def test_an_answer_has_openais_form(http: httpx.AsyncClient, usage: RememberedUsage) -> None:
    body = (await http.post(PATH, json={"input": ["hello", "hello big world"], "model": ALIAS})).json()
    assert (body["object"], body["model"]) == ("list", MODEL)
    assert [(item["object"], item["index"]) for item in body["data"]] == [("embedding", 0), ("embedding", 1)]
    assert body["usage"] == {"prompt_tokens": 3 + 5, "total_tokens": 3 + 5}
    assert usage.tokens == [(8, 0)]


async def test_nulls_and_unknown_fields_are_accepted(http: httpx.AsyncClient) -> None:
    body = {
        "input": "a",
        "model": None,
        "encoding_format": None,
        "dimensions": None,
        "user": None,
        "truncate": True,
        "input_type": "query",
    }
    assert (await http.post(PATH, json=body)).status_code == 200


async def test_token_ids_give_what_their_text_gives(http: httpx.AsyncClient) -> None:
    [[start, *ids, end]] = FakeEmbedder(EngineOptions()).tokenize(["big red apple"])
    assert (start, end) == (0, 1)
    answers = [
        (await http.post(PATH, json={"input": given})).json() for given in ("big red apple", ids, [ids])
    ]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("dimensions", [64, None])
async def test_the_models_own_size_may_be_asked_for(http: httpx.AsyncClient, dimensions: int | None) -> None:
    body = (await http.post(PATH, json={"input": "a", "dimensions": dimensions})).json()
    assert len(body["data"][0]["embedding"]) == 64


async def test_shorter_vectors_are_made_where_the_model_was_trained_for_them() -> None:
    class Matryoshka(FakeEmbedder):
        def form(self) -> VectorForm:
            return VectorForm(dimensions=64, sizes=(16, 64), unit=True)

    async with client_of(Matryoshka(EngineOptions())) as http:
        [whole], [short] = [
            [
                item["embedding"]
                for item in (await http.post(PATH, json={"input": "a", **asked})).json()["data"]
            ]
            for asked in ({}, {"dimensions": 16})
        ]
        refused = await http.post(PATH, json={"input": "a", "dimensions": 32})
    np.testing.assert_allclose(short, np.array(whole[:16]) / np.linalg.norm(whole[:16]), atol=1e-6)
    assert (refused.status_code, error_of(refused)["param"]) == (400, "dimensions")
    assert "16, 64" in error_of(refused)["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["a"] * 2049}, 400, "input"),
        ({"input": ["a", "b", ""]}, 400, "input.2"),
        ({"input": [1, 30_000]}, 400, "input"),
        ({"input": [[1], [30_000]]}, 400, "input.1"),
        ({"input": ["ok", "word " * 600]}, 400, "input.1"),
        ({"input": "word " * 600}, 400, "input"),
        ({"input": "a", "dimensions": 32}, 400, "dimensions"),
        ({"input": "a", "dimensions": "many"}, 400, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "model": "someone/else"}, 404, "model"),
        ({"input": "a", "model": 5}, 400, "model"),
        ({"input": "x" * 2**20}, 413, "body"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, param: str
) -> None:
    response = await http.post(PATH, json=body)
    assert response.status_code == status
    assert error_of(response)["param"] == param


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b'{"input": "\\ud800"}'])
async def test_a_body_that_is_no_request_is_refused(http: httpx.AsyncClient, content: bytes) -> None:
    response = await http.post(PATH, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    error_of(response)


async def test_a_full_queue_is_429() -> None:
    class Full(FakeEmbedder):
        async def embed(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
            raise TooManyRequests("full", retry_after_s=1)

    async with client_of(Full(EngineOptions())) as http:
        response = await http.post(PATH, json={"input": "a"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert error_of(response)["code"] == "rate_limit_exceeded"


async def test_a_client_that_leaves_cancels_its_work() -> None:
    loop = asyncio.get_running_loop()
    began, cancelled = asyncio.Event(), asyncio.Event()

    class Endless(FakeEmbedder):
        async def embed(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
            loop.call_soon_threadsafe(began.set)
            try:
                await asyncio.Event().wait()
            finally:
                loop.call_soon_threadsafe(cancelled.set)
            raise AssertionError("nobody sets that event")

    app = app_with(router(context_for(Endless(EngineOptions()), ModelType.EMBEDDING)))
    with run_server(app) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            request = asyncio.create_task(http.post(PATH, json={"input": "a"}))
            await asyncio.wait_for(began.wait(), 10)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            await asyncio.wait_for(cancelled.wait(), 5)


async def test_the_openapi_page_describes_the_four_forms_of_input(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    request = document["components"]["schemas"]["EmbeddingsRequest"]
    assert request["required"] == ["input"]
    assert len(request["properties"]["input"]["oneOf"]) == 4
