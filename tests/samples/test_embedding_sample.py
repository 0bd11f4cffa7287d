"""The committed embedding sample tells topics apart, as samples/README.md says."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedding_check import separation
from embedding_corpus import held_out_sentences, held_out_texts

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(scope="module")
def sample() -> SentenceTransformer:
    torch.set_num_threads(1)
    return SentenceTransformer(str(SAMPLES / "embedding"), device="cpu")


def test_wordings_and_pairs_of_words_it_never_saw_fall_under_their_topic(sample: SentenceTransformer) -> None:
    seen = separation(sample, held_out_texts(Random(7), of_each_topic=20))
    assert seen.same > seen.cross + 0.4
    assert seen.ordered > 0.97
    assert seen.nearest > 0.97


def test_natural_sentences_fall_under_their_topic(sample: SentenceTransformer) -> None:
    seen = separation(sample, held_out_sentences())
    assert seen.same > seen.cross + 0.3
    assert seen.ordered > 0.9
    assert seen.nearest > 0.85


def test_vectors_have_unit_length_and_do_not_depend_on_the_rest_of_the_batch(
    sample: SentenceTransformer,
) -> None:
    texts = ["bread", "The rocket carried two astronauts to the moon and back again within a week."]
    together = sample.encode(texts)
    assert together.shape == (2, sample.get_embedding_dimension())
    assert np.linalg.norm(together, axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)
    assert np.stack([sample.encode(text) for text in texts]) == pytest.approx(together, abs=1e-5)


def test_a_text_past_the_limit_is_cut_and_not_refused(sample: SentenceTransformer) -> None:
    assert sample.max_seq_length == 256
    once, much = sample.encode(["bread " * 254, "bread " * 5000])
    assert once == pytest.approx(much, abs=1e-5)


def test_the_folder_holds_the_files_that_minilm_publishes() -> None:
    folder = SAMPLES / "embedding"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
