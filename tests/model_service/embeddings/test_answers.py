"""The answer's body: numbers that read back as the very same float32, in both encodings."""

import base64
import json

import numpy as np
import pytest

from msp_common.errors import InvalidRequest
from msp_model_service.embeddings import answers
from msp_model_service.embeddings.shortening import shortened, size_for
from msp_model_service.engines.embedder import VectorForm

ODD = np.array(
    [[0.1, -0.0, 1.0, 1 / 3], [1e-30, -1e-45, 3.4028235e38, 16_777_217], [5e-5, 1e-5, 123456.78, 2**-126]],
    dtype=np.float32,
)


def test_written_numbers_read_back_as_the_same_float32() -> None:
    random = np.random.default_rng(0).standard_normal((20, 384)).astype(np.float32)
    for vectors in (ODD, random):
        read = json.loads(answers.body(vectors, "float", model="m", tokens=3))
        again = np.array([item["embedding"] for item in read["data"]], dtype=np.float32)
        assert np.array_equal(again, vectors)


def test_base64_holds_the_same_bytes() -> None:
    read = json.loads(answers.body(ODD, "base64", model="m", tokens=3))
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in read["data"]]
    assert np.stack(rows).tobytes() == ODD.astype("<f4").tobytes()


def test_columns_cut_from_longer_rows_are_written_alike() -> None:
    cut = ODD[:, :2]
    for encoding in ("float", "base64"):
        assert answers.body(cut, encoding, model="m", tokens=1) == answers.body(
            cut.copy(), encoding, model="m", tokens=1
        )


def test_a_models_name_is_written_as_json() -> None:
    assert json.loads(answers.body(ODD, "float", model='a"b\\ü', tokens=1))["model"] == 'a"b\\ü'


FIXED = VectorForm(dimensions=4, sizes=(4,), unit=True)
SOME = VectorForm(dimensions=4, sizes=(2, 4), unit=True)
ANY = VectorForm(dimensions=4, sizes=range(1, 5), unit=True)


@pytest.mark.parametrize(
    ("form", "asked", "size"), [(FIXED, None, 4), (FIXED, 4, 4), (SOME, 2, 2), (SOME, None, 4), (ANY, 1, 1)]
)
def test_sizes_that_the_model_was_trained_for_may_be_asked_for(
    form: VectorForm, asked: int | None, size: int
) -> None:
    assert size_for(asked, form) == size


@pytest.mark.parametrize(
    ("form", "asked", "says"),
    [
        (FIXED, 2, "is 2.*have 4 numbers and cannot be shortened"),
        (SOME, 3, "only be shortened to 2, 4"),
        (ANY, 5, "any size from 1 to 4"),
        (ANY, 0, "any size from 1 to 4"),
        (ANY, -1, "any size from 1 to 4"),
    ],
)
def test_other_sizes_are_refused_with_those_there_are(form: VectorForm, asked: int, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        size_for(asked, form)
    assert refused.value.param == "dimensions"


def test_shortened_unit_vectors_have_length_one_again() -> None:
    vectors = np.array([[0.6, 0.0, 0.8], [0.0, 0.0, 1.0]], dtype=np.float32)
    assert shortened(vectors, 2, unit=True).tolist() == [[1, 0], [0, 0]]
    assert shortened(vectors, 3, unit=True) is vectors


def test_vectors_that_are_not_scaled_are_only_cut() -> None:
    vectors = np.array([[3.0, 4.0, 12.0]], dtype=np.float32)
    assert shortened(vectors, 2, unit=False).tolist() == [[3, 4]]
