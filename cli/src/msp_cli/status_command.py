"""`msp status`: all programs and workers, as the gateway tells."""

import asyncio
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from msp_cli.authorities import authorities_for
from msp_cli.job_batch import code_of
from msp_cli.registry_api import ServiceAnsweredBadly, asked, parsed
from msp_cli.tables import table
from msp_common.contracts.workers import Services, ServiceStatus, WorkerLoad

_STYLES = {"ok": "green", "ready": "green", "down": "red", "unhealthy": "red", "failed": "red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    gateway: Annotated[
        str, typer.Option("--gateway", envvar="GATEWAY_URL", help="Where the gateway is.")
    ] = "http://127.0.0.1:8080",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Tell how all programs and workers are. Ends with 3 when the gateway cannot be reached."""
    try:
        services = asyncio.run(_services(gateway.rstrip("/")))
    except ServiceAnsweredBadly as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(code_of(error)) from None
    if as_json:
        typer.echo(services.model_dump_json(indent=2))
        return
    # Where nothing is wrong, the room is for the URLs.
    why = ["why"] if any(line.reason for line in services.services) else []
    shown = table("name", "status", "model", "busy", "URL", *why)
    for line in services.services:
        shown.add_row(*_row(line), *(escape(line.reason or "") for _ in why))
    Console().print(shown)


async def _services(gateway: str) -> Services:
    async with httpx.AsyncClient(verify=authorities_for(gateway), trust_env=False, timeout=10) as client:
        return parsed(Services, await asked(client, "GET", f"{gateway}/services"))


def _row(line: ServiceStatus) -> list[str]:
    share = "" if line.progress is None else f" {line.progress:.0%}"
    return [
        escape(line.name),
        f"[{_STYLES.get(line.status, 'yellow')}]{escape(line.status)}{share}[/]",
        escape(line.model.id) if line.model else "",
        _busy(line.load) if line.load else "",
        escape(line.url or ""),
    ]


def _busy(load: WorkerLoad) -> str:
    waiting = f", {load.queued} wait" if load.queued else ""
    return f"{load.in_flight} of {load.slots}{waiting}"
