"""The command `msp`."""

import typer

from msp_cli import cluster_commands, keys_commands, models_commands
from msp_cli.bundle import commands as bundle_commands
from msp_cli.doctor import command as doctor_commands
from msp_cli.plan.command import plan
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
app.command()(plan)
doctor_commands.register(app)
app.add_typer(models_commands.app)
app.add_typer(keys_commands.app)
app.add_typer(bundle_commands.app)
