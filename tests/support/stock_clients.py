"""Clients as people install them, each in a process of its own, with one script for all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.locked_environments import node_packages, python_with

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "clients"
SCRIPT = FOLDER / "script.json"
ENVIRONMENTS = ROOT / ".venv-clients"
KEY = "sk-of-nobody"


@dataclass(frozen=True)
class Place:
    """Where a model is served."""

    url: str
    """With `/v1`."""
    model: str


@dataclass(frozen=True)
class Places:
    """Where the script's models are served: by a worker each, or all by one gateway."""

    chat: Place
    embedding: Place
    transcription: Place


def of_samples(chat: str, embedding: str, transcription: str) -> Places:
    """The sample models at these addresses, without `/v1`; the same one three times for a gateway."""
    return Places(
        Place(f"{chat}/v1", "samples/chat"),
        Place(f"{embedding}/v1", "samples/embedding"),
        Place(f"{transcription}/v1", "samples/whisper"),
    )


@dataclass(frozen=True)
class StockClient:
    """One client: the program that drives it, and what of the script it has no notion of."""

    name: str
    command: Callable[[], tuple[list[str], dict[str, Any]]]
    """The command line, and what else the program must be told. Raises NoEnvironment."""
    knows_not: frozenset[str] = frozenset()

    def run(self, places: Places) -> dict[str, Any]:
        """What came of each step of the script. Raises NoEnvironment."""
        command, more = self.command()
        told = {
            "script": str(SCRIPT),
            "key": KEY,
            "recording": str(ROOT / "samples/audio/three-one-four.wav"),
            **{name: vars(place) for name, place in vars(places).items()},
            **more,
        }
        ended = subprocess.run(
            [*command, json.dumps(told)],
            # Nothing of this process's own, so that no setting of a developer's makes a test pass.
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        results: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return results

    def expected(self) -> dict[str, Any]:
        """What must come of the steps that the client knows."""
        script = json.loads(SCRIPT.read_text())
        return {name: step["expected"] for name, step in script.items() if name not in self.knows_not}


def _openai_python() -> tuple[list[str], dict[str, Any]]:
    return [sys.executable, str(FOLDER / "drive_openai.py")], {}


def _langchain() -> tuple[list[str], dict[str, Any]]:
    python = python_with(ROOT / "requirements" / "langchain-client.txt", ENVIRONMENTS)
    return [str(python), str(FOLDER / "drive_langchain.py")], {}


def _openai_js() -> tuple[list[str], dict[str, Any]]:
    packages = node_packages(FOLDER / "js", ENVIRONMENTS)
    return ["node", str(FOLDER / "drive_openai.cjs")], {"packages": str(packages)}


CLIENTS = (
    StockClient("openai-python", _openai_python),
    StockClient("langchain", _langchain, frozenset({"models", "transcription"})),
    StockClient("openai-js", _openai_js),
)
