"""Names in paths: what they mean among the models that are known."""

import pytest

from msp_common.model_ids import InvalidModelId
from msp_registry.names import AmbiguousModel, meant, plain_name

KNOWN = ["gpt2", "org/a-b", "org-a/b", "org/tiny", "Qwen/Qwen2.5-0.5B"]


@pytest.mark.parametrize(
    ("name", "repo_id"),
    [
        ("org/tiny", "org/tiny"),
        ("org-tiny", "org/tiny"),
        ("Qwen-Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("gpt2", "gpt2"),
        ("new-model", "new-model"),
        ("new/model", "new/model"),
        ("org/a-b", "org/a-b"),
    ],
)
def test_a_name_means_the_one_model_that_it_could_be(name: str, repo_id: str) -> None:
    assert meant(plain_name(name), KNOWN) == repo_id


def test_a_name_that_could_be_two_models_lists_both() -> None:
    with pytest.raises(AmbiguousModel, match="org-a/b, org/a-b") as raised:
        meant("org-a-b", KNOWN)
    assert raised.value.ids == ["org-a/b", "org/a-b"]


def test_a_bare_id_and_its_twin_with_a_slash_are_two_models() -> None:
    with pytest.raises(AmbiguousModel, match="a-b, a/b"):
        meant("a-b", ["a-b", "a/b"])


def test_the_dash_form_may_be_longer_than_an_id() -> None:
    repo_id = "o" * 96 + "/" + "n" * 96
    dashed = repo_id.replace("/", "-")
    assert meant(plain_name(dashed), [repo_id]) == repo_id
    with pytest.raises(InvalidModelId):
        meant(plain_name(dashed), [])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b/c",
        "..",
        "a/..",
        "a%2F..%2Fb",
        "a\0b",
        "-a",
        "a-",
        "a--b",
        "x" * 194,
        "x" * 10_000,
        "0" * 40,
        "a b",
    ],
)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidModelId):
        meant(plain_name(name), [])


def test_a_name_longer_than_any_dash_form_is_refused_before_anything_is_looked_up() -> None:
    assert plain_name("x" * 193) == "x" * 193
    with pytest.raises(InvalidModelId):
        plain_name("x" * 194)
