"""Commands are read in when they are asked for."""

import json
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from msp_cli.commands_on_demand import CommandsOnDemand
from msp_cli.main import app

NAMES = [
    *("up", "down", "restart", "ps", "logs", "status", "plan", "doctor", "support-bundle"),
    *("models", "keys", "bundle"),
]

ONE_COMMAND = """
import json, sys
from msp_cli.main import app
try:
    app(["models", "list", "--help"])
finally:
    print(json.dumps([name for name, module in sys.modules.items() if module is not None]), file=sys.stderr)
"""


def commands() -> Any:
    return get_group(app).commands


def test_every_command_is_found_in_its_order() -> None:
    assert list(commands()) == NAMES
    assert [command.name for command in commands().values()] == NAMES


def test_one_command_reads_in_no_other_and_not_what_only_the_command_line_of_httpx_needs() -> None:
    done = subprocess.run([sys.executable, "-c", ONE_COMMAND], check=True, capture_output=True, text=True)
    modules = json.loads(done.stderr)
    assert "msp_cli.models_commands" in modules
    others = ("msp_cli.doctor", "msp_cli.plan", "msp_cli.bundle", "msp_cli.keys_commands", "httpx._main")
    assert [name for name in modules if name.startswith(others)] == []


def test_a_misspelt_command_is_guessed() -> None:
    done = CliRunner().invoke(app, ["modles"])
    assert done.exit_code == 2
    assert "Did you mean 'models'?" in done.output


def test_names_are_known_before_anything_is_read_in() -> None:
    known = CommandsOnDemand({"one": "no.such.module"})
    assert "one" in known
    assert len(known) == 1
    with pytest.raises(ModuleNotFoundError):
        known["one"]
    with pytest.raises(KeyError):
        known["two"]
