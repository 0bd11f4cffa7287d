"""The command `msp`."""

import typer

from msp_cli import cluster_commands, models_commands
from msp_cli.status_command import status

app = typer.Typer(
    name="msp",
    help="The operator's tool of the Model Service Platform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cluster_commands.register(app)
app.command()(status)
app.add_typer(models_commands.app)
