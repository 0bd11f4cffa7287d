"""What an embeddings request may hold, and how refusals name the item at fault."""

from typing import Any

import pytest

from msp_common.errors import ContextTooLong, InvalidRequest
from msp_model_service.embeddings import inputs
from msp_model_service.engines.embedder import EmbedderLimits


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("one", ["one"]),
        (" ", [" "]),
        (["one", "two"], ["one", "two"]),
        ([5, 6], [[5, 6]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
        ("😀", ["😀"]),
    ],
)
def test_texts_and_token_ids_are_read_alone_and_in_lists(given: Any, read: Any) -> None:
    assert inputs.parse(given) == read


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (None, "input"),
        (7, "input"),
        ({"text": "a"}, "input"),
        ("", "input"),
        ([], "input"),
        (["a", "b", "", "c"], "input.2"),
        (["a", 5], "input.1"),
        (["a", None], "input.1"),
        ([None], "input.0"),
        ([True], "input.0"),
        ([1.5], "input.0"),
        ([5, "a"], "input.1"),
        ([5, -1], "input.1"),
        ([[5], []], "input.1"),
        ([[5], [6, True]], "input.1.1"),
        ([[5], 6], "input.1"),
        ([["a"]], "input.0.0"),
        ("\ud83d", "input"),
        (["a"] * 2049, "input"),
        ([[1]] * 2049, "input"),
    ],
)
def test_what_is_neither_is_refused_by_name(given: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        inputs.parse(given)
    assert refused.value.param == param


def test_2048_inputs_are_not_too_many() -> None:
    assert len(inputs.parse(["a"] * 2048)) == 2048


@pytest.mark.parametrize(("single", "param"), [(False, "input.1"), (True, "input")])
def test_an_input_that_would_be_cut_is_refused_with_both_lengths(single: bool, param: str) -> None:
    limits = EmbedderLimits(max_tokens=3, vocabulary=10)
    ids = [[1] * 4] if single else [[1] * 3, [1] * 4]
    with pytest.raises(ContextTooLong, match=r"4 tokens.*at most 3") as refused:
        inputs.check_lengths(ids, limits, single=single)
    assert (refused.value.param, refused.value.code) == (param, "context_length_exceeded")


def test_a_request_may_not_have_too_many_tokens_in_all() -> None:
    limits = EmbedderLimits(max_tokens=200_000, vocabulary=10)
    inputs.check_lengths([[1] * 150_000] * 2, limits, single=False)
    with pytest.raises(InvalidRequest, match="300001"):
        inputs.check_lengths([[1] * 150_000, [1] * 150_001], limits, single=False)


def test_ids_of_another_tokenizer_are_refused() -> None:
    inputs.check_vocabulary([[0, 9]], 10, single=True)
    with pytest.raises(InvalidRequest, match=r"token id 10.*end at 9") as refused:
        inputs.check_vocabulary([[1], [2, 10]], 10, single=False)
    assert refused.value.param == "input.1"
