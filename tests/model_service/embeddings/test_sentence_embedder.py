"""The sentence-transformers engine: the repository's own vectors, in batches of any size."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from msp_common.errors import Unavailable
from msp_model_service.embeddings.shortening import shortened
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions
from msp_model_service.engines.sentence_embedder import SentenceEmbedder
from msp_model_service.engines.sentence_model import SentenceModel
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


@pytest.mark.parametrize("pooling_mode", ["cls", "max", "lasttoken", "weightedmean"])
@pytest.mark.parametrize("padding_side", ["left", "right"])
async def test_pooling_is_the_repositorys_whatever_the_side_of_the_padding(
    tmp_path: Path, pooling_mode: str, padding_side: str
) -> None:
    repository = tiny.make(tmp_path, pooling_mode=pooling_mode, padding_side=padding_side)
    engine = loaded(repository)
    own = await engine.embed(engine.tokenize(TEXTS))
    np.testing.assert_allclose(own, library(repository).encode(TEXTS, batch_size=1), atol=1e-5)
    engine.unload()


async def test_a_model_trained_for_shorter_vectors_says_which(tmp_path: Path) -> None:
    for declared, sizes in (
        ({"matryoshka_dimensions": [8, 16, 4096]}, [8, 16, 32]),
        ({"is_matryoshka": True}, list(range(1, 33))),
        ({}, [32]),
    ):
        folder = tmp_path / str(len(sizes))
        folder.mkdir()
        engine = loaded(tiny.make(folder, **declared))
        assert list(engine.form().sizes) == sizes
        assert engine.form().dimensions == engine.capabilities().dimensions == 32
        engine.unload()


async def test_a_repository_may_declare_a_shorter_size_as_its_usual_one(tmp_path: Path) -> None:
    repository = tiny.make(tmp_path, truncate_dim=12)
    engine = loaded(repository)
    form = engine.form()
    assert (form.dimensions, list(form.sizes)) == (12, [12, 32])
    own = shortened(await engine.embed(engine.tokenize(TEXTS)), form.dimensions, unit=form.unit)
    reference = library(repository).encode(TEXTS)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    np.testing.assert_allclose(own, reference, atol=1e-5)
    engine.unload()


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
async def test_vectors_have_length_one_to_float32s_precision_whatever_the_weights_are_stored_in(
    tmp_path: Path, stored: torch.dtype
) -> None:
    engine = loaded(tiny.make(tmp_path, dtype=stored))
    own = await engine.embed(engine.tokenize(TEXTS))
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-6)
    engine.unload()


@pytest.mark.parametrize(
    ("stored", "fast", "runs_in"),
    [
        (torch.bfloat16, True, torch.bfloat16),
        (torch.bfloat16, False, torch.float32),
        (torch.float16, True, torch.float32),
        (torch.float32, True, torch.float32),
    ],
)
def test_a_processor_takes_bfloat16_only_for_weights_stored_in_it_and_where_it_has_it(
    tmp_path: Path, stored: torch.dtype, fast: bool, runs_in: torch.dtype
) -> None:
    repository = tiny.make(tmp_path, dtype=stored)
    model = SentenceModel.load(repository, torch.device("cpu"), fast_bf16=lambda: fast)
    assert model.dtype is runs_in


def refuses_to_run(network: torch.nn.Module) -> int:
    del network.get_submodule("encoder.layer.0.output").dense
    return 1


def computes_otherwise(network: torch.nn.Module) -> int:
    torch.nn.init.ones_(network.get_parameter("encoder.layer.0.output.dense.weight"))
    return 1


@pytest.mark.parametrize("spoil", [refuses_to_run, computes_otherwise])
async def test_a_model_that_faster_layers_spoil_is_served_with_its_own(
    repository: Path, spoil: Callable[[torch.nn.Module], int]
) -> None:
    engine = SentenceEmbedder(EngineOptions(device="cpu"), pack=spoil)
    engine.load(repository, lambda phase, share: None)
    own = await engine.embed(engine.tokenize(TEXTS))
    np.testing.assert_allclose(own, library(repository).encode(TEXTS), atol=1e-5)
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
