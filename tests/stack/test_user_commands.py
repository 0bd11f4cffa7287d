"""Every command line of the user's documents is run by a test, and here is which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.compose_stack import REPOSITORY
from support.user_commands import COMMANDS

pytestmark = pytest.mark.stack

TYPING = ("types", "sees", "follows")


def _typed() -> Iterator[tuple[str, str]]:
    """Name of a command → the test or fixture that types it."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef):
                for command in _commands_in(function):
                    yield command, f"{path.name}::{function.name}"


def _commands_in(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in TYPING
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def test_each_command_line_has_its_test() -> None:
    typed = dict(reversed(list(_typed())))
    for name, command in COMMANDS.items():
        print(f"{command.line.splitlines()[0]:90} {typed.get(name) or command.elsewhere}")  # noqa: T201
    here = {name for name, command in COMMANDS.items() if not command.elsewhere}
    assert typed.keys() == here


@pytest.mark.parametrize("name", [n for n, c in COMMANDS.items() if "tests/" in c.elsewhere])
def test_what_is_run_elsewhere_is_there(name: str) -> None:
    place = COMMANDS[name].elsewhere.rpartition(" ")[2]
    assert (REPOSITORY / place).exists()
