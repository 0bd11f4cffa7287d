"""The operator's file of aliases and fallbacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from msp_common.contracts.model_type import ModelType
from msp_gateway.failures import Lack
from msp_gateway.routing_rules import DefaultOf, RoutingFileError, RoutingRules, StandIn, load, shipped
from support.servers import free_port


def written(folder: Path, text: str) -> Path:
    path = folder / "routing.yaml"
    path.write_text(text)
    return path


def test_aliases_and_fallbacks_are_read(tmp_path: Path) -> None:
    rules = load(
        written(
            tmp_path,
            """
aliases:
  gpt-4o-mini: default:llm
  speech: default:whisper
  house: org/chat
fallbacks:
  org/chat:
    - org/other
    - {model: org/long, when: [context, unavailable]}
""",
        )
    )
    assert rules.meaning_of("gpt-4o-mini") == DefaultOf(ModelType.LLM)
    assert rules.meaning_of("speech") == DefaultOf(ModelType.TRANSCRIPTION)
    assert rules.meaning_of("house") == "org/chat"
    assert rules.meaning_of("org/chat") is None
    assert rules.stand_ins("org/chat") == [
        StandIn(model="org/other"),
        StandIn(model="org/long", when=frozenset({Lack.CONTEXT, Lack.UNAVAILABLE})),
    ]
    assert rules.stand_ins("org/other") == ()


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing yet\n")) == RoutingRules()


def test_the_names_that_clients_come_with_mean_the_defaults() -> None:
    rules = shipped()
    assert rules.meaning_of("gpt-4o-mini") == DefaultOf(ModelType.LLM)
    assert rules.meaning_of("text-embedding-3-small") == DefaultOf(ModelType.EMBEDDING)
    assert rules.meaning_of("whisper-1") == DefaultOf(ModelType.TRANSCRIPTION)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("aliases:\n  a: org/b\nalias: {}\n", 3, "alias: no such key"),
        ("aliases:\n  a: org/b\n  c: ../etc\n", 3, "'../etc' is no model id"),
        ("aliases:\n  a: default:poetry\n", 2, "'default:poetry' names no type; the types are llm, "),
        ("aliases:\n  gpt: 4\n", 2, "put it in quotes"),
        ("aliases: [a]\n", 1, "aliases: "),
        ("aliases:\n  a: b\n  b: org/c\n", 1, "aliases.a: b is an alias too; name the model itself"),
        ("fallbacks:\n  org/a:\n    - org/b\n    - model: org/c\n      when: [sunday]\n", 5, "'unavailable'"),
        ("fallbacks:\n  org/a:\n    - org/b\n    - model: org/c\n      whne: []\n", 5, "no such key"),
        ("fallbacks:\n  org/a:\n    - model: org/c\n      when: []\n", 4, "at least 1"),
        ("fallbacks:\n  org/a:\n    - org/b\n    - org/a\n", 1, "fallbacks.org/a: each model once"),
        ("fallbacks:\n  org/a: [org/b, org/b]\n", 1, "each model once"),
        ("fallbacks:\n  o/r/g: [org/b]\n", 2, "no model id"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RoutingFileError) as caught:
        load(path)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{path}:{line}: ")
    assert says in first


@pytest.mark.parametrize(
    "text", ["aliases: {a: org/b\n", "aliases:\n  a: org/b\n  a: org/c\n", "a\tb: [", "- a\n"]
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RoutingFileError, match=r"routing\.yaml"):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RoutingFileError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_a_gateway_does_not_start_with_a_file_that_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, "aliases:\n  gpt: default:poetry\n")
    environ = {**os.environ, "GATEWAY_PORT": str(free_port()), "GATEWAY_ROUTING_FILE": str(path)}
    done = subprocess.run(
        [sys.executable, "-m", "msp_gateway"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert f"GATEWAY_ROUTING_FILE is wrong:\n{path}:2: aliases.gpt: " in done.stderr
