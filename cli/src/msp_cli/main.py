"""The command `msp`."""

from typing import Any

import typer
from typer.core import TyperGroup

from msp_cli.commands_on_demand import CommandsOnDemand

_HOMES = {
    "up": "msp_cli.cluster_commands",
    "down": "msp_cli.cluster_commands",
    "restart": "msp_cli.cluster_commands",
    "ps": "msp_cli.cluster_commands",
    "logs": "msp_cli.cluster_commands",
    "status": "msp_cli.status_command",
    "plan": "msp_cli.plan.command",
    "doctor": "msp_cli.doctor.command",
    "support-bundle": "msp_cli.doctor.command",
    "models": "msp_cli.models_commands",
    "keys": "msp_cli.keys_commands",
    "bundle": "msp_cli.bundle.commands",
}


class _Commands(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = CommandsOnDemand(_HOMES)  # type: ignore[assignment]  # nobody adds to it


app = typer.Typer(
    name="msp",
    cls=_Commands,
    help="The operator's tool of the Model Service Platform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _msp() -> None:
    # Without it Typer takes an application that has no command yet for a mistake.
    pass
