"""The sentence-transformers engine: the repository's own vectors, in batches of any size."""

import asyncio
import functools
import json
import operator
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from msp_common.errors import Unavailable
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions
from msp_model_service.engines.sentence_embedder import SentenceEmbedder, around, batches
from support import tiny_embedding_model as tiny

TEXTS = ["the quick brown fox", "hello world", "a cat", "The LAZY dog jumps over the mat", "xyz", "Ünï 世界"]


def loaded(repository: Path) -> SentenceEmbedder:
    engine = SentenceEmbedder(EngineOptions(device="cpu"))
    engine.load(repository, lambda phase, share: None)
    return engine


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("embedding"))


@pytest.fixture(scope="module")
def engine(repository: Path) -> Iterator[SentenceEmbedder]:
    engine = loaded(repository)
    yield engine
    engine.unload()


def library(repository: Path) -> SentenceTransformer:
    return SentenceTransformer(str(repository), device="cpu", local_files_only=True)


async def test_vectors_are_those_of_the_library(repository: Path, engine: SentenceEmbedder) -> None:
    own = await engine.embed(engine.tokenize(TEXTS))
    np.testing.assert_allclose(own, library(repository).encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-6)


async def test_one_text_alone_and_among_others_has_the_same_vector(engine: SentenceEmbedder) -> None:
    ids = engine.tokenize(TEXTS * 20)
    together = await engine.embed(ids)
    alone = np.concatenate([await engine.embed([each]) for each in ids[: len(TEXTS)]])
    np.testing.assert_allclose(together, np.tile(alone, (20, 1)), atol=1e-5)


async def test_requests_at_the_same_time_do_not_mix(engine: SentenceEmbedder) -> None:
    each = await asyncio.gather(*(engine.embed(engine.tokenize([text])) for text in TEXTS * 5))
    together = await engine.embed(engine.tokenize(TEXTS))
    np.testing.assert_allclose(np.concatenate(each), np.tile(together, (5, 1)), atol=1e-5)


@pytest.mark.parametrize(("prompt", "include_prompt"), [("passage : ", True), ("passage : ", False)])
async def test_the_repositorys_default_prompt_is_used_and_pooled_as_it_says(
    tmp_path: Path, prompt: str, include_prompt: bool
) -> None:
    repository = tiny.make(tmp_path, prompt=prompt, include_prompt=include_prompt)
    engine = loaded(repository)
    ids = engine.tokenize(TEXTS)
    own = await engine.embed(ids)
    np.testing.assert_allclose(own, library(repository).encode(TEXTS), atol=1e-5)
    tokenizer = library(repository).tokenizer
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert [engine.complete(each) for each in plain] == ids
    engine.unload()


async def test_vectors_are_left_as_long_as_they_are_where_the_repository_does_not_normalise(
    tmp_path: Path,
) -> None:
    repository = tiny.make(tmp_path, normalise=False)
    engine = loaded(repository)
    own = await engine.embed(engine.tokenize(TEXTS))
    np.testing.assert_allclose(own, library(repository).encode(TEXTS), atol=1e-4)
    assert np.abs(np.linalg.norm(own, axis=1) - 1).min() > 0.1
    engine.unload()


async def test_token_ids_with_and_without_special_tokens_mean_the_text(engine: SentenceEmbedder) -> None:
    [whole] = engine.tokenize(["the quick fox"])
    assert engine.complete(whole) == whole
    assert engine.complete(whole[1:-1]) == whole


def test_long_texts_are_counted_whole(engine: SentenceEmbedder) -> None:
    assert engine.limits().max_tokens == tiny.CONTEXT
    assert len(engine.tokenize(["fox " * 500])[0]) == 502


def test_it_says_what_it_can_do(engine: SentenceEmbedder) -> None:
    capabilities = engine.capabilities()
    assert (capabilities.dimensions, capabilities.context_length) == (tiny.DIMENSIONS, tiny.CONTEXT)
    assert capabilities.paths == ["/v1/embeddings"]
    assert engine.problem() is None


async def test_after_unloading_it_answers_unavailable(repository: Path) -> None:
    engine = loaded(repository)
    ids = engine.tokenize(["a"])
    engine.unload()
    with pytest.raises(Unavailable):
        await engine.embed(ids)


@pytest.mark.parametrize("broken", ["nothing", "no-weights", "cut-weights", "bad-json"])
def test_a_folder_that_cannot_be_served_is_refused_with_a_reason(
    tmp_path: Path, broken: str, repository: Path
) -> None:
    folder = tmp_path / "repository"
    if broken == "nothing":
        folder.mkdir()
    else:
        tiny.make(tmp_path)
    if broken == "no-weights":
        (folder / "model.safetensors").unlink()
    if broken == "cut-weights":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[:1000])
    if broken == "bad-json":
        (folder / "config.json").write_text("{")
    engine = SentenceEmbedder(EngineOptions(device="cpu"))
    with pytest.raises(EngineLoadFailed, match="repository"):
        engine.load(folder, lambda phase, share: None)
    engine.unload()


def test_code_of_the_repository_is_never_run(tmp_path: Path) -> None:
    repository = tiny.make(tmp_path)
    canary = tmp_path / "ran"
    (repository / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    modules = json.loads((repository / "modules.json").read_text())
    modules[0]["type"] = "evil.Evil"
    (repository / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EngineLoadFailed):
        loaded(repository)
    assert not canary.exists()


def test_batches_hold_alike_lengths_within_the_budget() -> None:
    cuts = batches([5, 1, 9, 2, 2, 30], budget=10)
    assert cuts == [[1, 3, 4], [0], [2], [5]]
    assert sorted(functools.reduce(operator.iadd, cuts, [])) == list(range(6))
    assert batches([], 10) == []


def test_special_tokens_are_found_around_a_text() -> None:
    assert around([1, 7, 8, 2], [7, 8]) == ([1], [2])
    assert around([7, 8], [7, 8]) == ([], [])
    with pytest.raises(EngineLoadFailed):
        around([1, 9, 2], [7])
