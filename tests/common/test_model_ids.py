"""Model ids are accepted in the Hub's alphabet, decoded once, and never become a dangerous path."""

import pytest

from msp_common.model_ids import InvalidModelId, hyphenated, parse_model_id


@pytest.mark.parametrize(
    ("raw", "model_id"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("openai%2Fwhisper-base", "openai/whisper-base"),
        ("gpt2", "gpt2"),
        ("samples/chat", "samples/chat"),
    ],
)
def test_ids_are_taken_raw_and_encoded(raw: str, model_id: str) -> None:
    assert parse_model_id(raw) == model_id


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        "..",
        "a/..",
        "../a",
        "a/..%2fb",
        "a\x00b",
        "a b",
        "x" * 10_000,
        "a/.hidden",
        "-a",
    ],
)
def test_everything_else_is_refused(raw: str) -> None:
    with pytest.raises(InvalidModelId):
        parse_model_id(raw)


def test_two_ids_may_share_the_hyphenated_form() -> None:
    assert hyphenated("a/b-c") == hyphenated("a-b/c") == "a-b-c"
