"""`msp up`, `down`, `restart`, `ps` and `logs`."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from msp_cli.cluster_file import ClusterFileError
from msp_cli.interrupts import until_stopped
from msp_cli.local_cluster import Failed, LocalCluster, Refused
from msp_cli.run_dir import RunDir, RunDirBusy, RunStateUnreadable

EXIT_FAILED, EXIT_REFUSED, EXIT_NOT_RUNNING = 1, 2, 3
EXIT_INTERRUPTED = 130

RunDirOption = Annotated[
    Path, typer.Option("--run-dir", envvar="MSP_RUN_DIR", help="Folder for logs and for what runs.")
]
DEFAULT_RUN_DIR = Path(".run")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(restart)
    app.command()(ps)
    app.command()(logs)


def up(
    cluster: Annotated[Path, typer.Option("--cluster", help="YAML file that describes the services.")],
    detach: Annotated[bool, typer.Option("--detach", help="Return once all services are healthy.")] = False,
    run_dir: RunDirOption = DEFAULT_RUN_DIR,
) -> None:
    """Start a cluster of local processes; Ctrl-C stops it.

    Exit codes: 0 all is well, 1 something did not come up and all was stopped again, 2 nothing was started.
    """
    local = _local(run_dir)
    with _told():
        if _run(lambda: local.up(cluster, detach=detach)):
            raise typer.Exit(EXIT_INTERRUPTED)


def down(run_dir: RunDirOption = DEFAULT_RUN_DIR) -> None:
    """Stop the cluster."""
    with _told():
        _local(run_dir).down()


def restart(
    name: Annotated[str, typer.Argument(help="The service.")], run_dir: RunDirOption = DEFAULT_RUN_DIR
) -> None:
    """Stop one service, if it runs, and start it again."""
    local = _local(run_dir)
    with _told():
        if _run(lambda: local.restart(name)):
            raise typer.Exit(EXIT_INTERRUPTED)


def ps(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    run_dir: RunDirOption = DEFAULT_RUN_DIR,
) -> None:
    """Tell which local services run. Exit code 0 if all are healthy, 3 if not."""
    with _told(refused=EXIT_NOT_RUNNING):
        if not asyncio.run(_local(run_dir).ps(as_json=as_json)):
            raise typer.Exit(EXIT_NOT_RUNNING)


def logs(
    name: Annotated[str, typer.Argument(help="The service.")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    run_dir: RunDirOption = DEFAULT_RUN_DIR,
) -> None:
    """Show what a service wrote."""
    run = RunDir(run_dir)
    path = run.log_of(name)
    if not path.is_file():
        _say(f"there is no log {path}")
        raise typer.Exit(EXIT_REFUSED)
    for line in run.last_lines(name, lines):
        typer.echo(line)
    if not follow:
        return
    with path.open() as log:
        log.seek(0, 2)
        while True:
            if text := log.read():
                typer.echo(text, nl=False)
            time.sleep(0.2)


def _local(run_dir: Path) -> LocalCluster:
    return LocalCluster(RunDir(run_dir.resolve()), Console())


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    async def main() -> bool:
        return await until_stopped(asyncio.create_task(work()))

    return asyncio.run(main())


@contextmanager
def _told(refused: int = EXIT_REFUSED) -> Iterator[None]:
    """Turn what can go wrong into a message and an exit code."""
    try:
        yield
    except (Refused, ClusterFileError, RunDirBusy, RunStateUnreadable) as error:
        _say(str(error))
        raise typer.Exit(refused) from None
    except Failed as error:
        _say(str(error))
        raise typer.Exit(EXIT_FAILED) from None


def _say(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
