"""What the operator said of an external server."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Feature = Literal["tools", "json_schema", "logprobs"]

LISTENS_ON = "127.0.0.1"
"""Where a started server is to listen: nobody but the worker speaks to it."""

_PLACEHOLDER = re.compile(r"\{(model_dir|model_name|port|host)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Pace:
    """Seconds of the waiting for and looking after a server; shorter in tests."""

    look_every_s: float = 2.0
    unhealthy_after_s: float = 30.0
    """So long without a good answer means that the server is broken: a busy one may be late for once."""
    answer_within_s: float = 10.0
    stop_within_s: float = 6.0
    """From SIGTERM to SIGKILL; less than the worker gives its engine to unload."""


@dataclass(frozen=True)
class ServerPlan:
    """One external server: started by the worker (`command`), or running already (`url`)."""

    model_id: str
    command: tuple[str, ...] = ()
    url: str | None = None
    """Of a server that runs already; without the base path."""
    api_key: str | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What a started server gets beside what it inherits."""
    ready_path: str = "/health"
    base_path: str = "/v1"
    start_timeout_s: float = 900.0
    model_name: str | None = None
    """What the server calls the model, placeholders allowed; null: what its `/models` says."""
    context_length: int | None = None
    features: frozenset[Feature] = frozenset()
    slots: int = 32
    """Requests that are handed on at once; more count as queued."""
    max_queued: int = 64
    pace: Pace = Pace()

    def command_for(self, folder: Path, port: int) -> list[str]:
        """The command line, placeholders filled in."""
        return [self._filled(word, folder, port) for word in self.command]

    def model_name_for(self, folder: Path, port: int) -> str | None:
        """What the server calls the model, if the operator said so."""
        return None if self.model_name is None else self._filled(self.model_name, folder, port)

    def _filled(self, text: str, folder: Path, port: int) -> str:
        # Not str.format: arguments with JSON in them are full of braces.
        values = {
            "model_dir": str(folder),
            "model_name": self.model_id,
            "port": str(port),
            "host": LISTENS_ON,
        }
        return _PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def read_command(text: str) -> tuple[str, ...]:
    """A command line written as a JSON list of strings, or as one would type it; no shell reads it.

    Raises ValueError.
    """
    if text.lstrip().startswith("["):
        words = json.loads(text)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("expected a list of strings")
    else:
        words = shlex.split(text)
    if not words or not words[0]:
        raise ValueError("expected a program and its arguments")
    return tuple(words)


def read_environment(text: str) -> dict[str, str]:
    """Variables written as a JSON object of strings, or as `NAME=value OTHER='two words'`.

    Raises ValueError.
    """
    if text.lstrip().startswith("{"):
        given = json.loads(text)
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise ValueError("expected an object whose values are strings")
    else:
        pairs = [word.partition("=") for word in shlex.split(text)]
        if wrong := next((name for name, equals, _ in pairs if not equals), None):
            raise ValueError(f"expected NAME=value, not {wrong!r}")
        given = {name: value for name, _, value in pairs}
    if wrong := next((name for name in given if not _NAME.fullmatch(name)), None):
        raise ValueError(f"{wrong!r} is no name of a variable")
    return given
