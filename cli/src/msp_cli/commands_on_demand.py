"""The commands of `msp`, each read in when it is asked for: most runs need one of them."""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.main import get_group


class CommandsOnDemand(Mapping[str, Any]):
    """Commands by name, in the order of `homes`: names of modules whose `register` adds the command."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes = homes
        self._read_in: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The command; the first time its module is imported."""
        if name not in self._read_in:
            self._read_in[name] = _commands_of(self._homes[name])[name]
        return self._read_in[name]

    def __iter__(self) -> Iterator[str]:
        """Names; nothing is imported."""
        return iter(self._homes)

    def __len__(self) -> int:
        """How many there are; nothing is imported."""
        return len(self._homes)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a command; nothing is imported."""
        return name in self._homes


def _commands_of(home: str) -> Mapping[str, Any]:
    # httpx imports a command line of its own, with all that colours Markdown, if it is there.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: is not there
    module = import_module(home)
    part = typer.Typer()
    module.register(part)
    return get_group(part).commands
