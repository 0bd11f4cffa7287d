"""`msp models rm` and `gc`: what leaves the store."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from msp_cli import durations
from msp_cli.models_session import (
    DEFAULT_URL,
    JsonOption,
    ModelArgument,
    RegistryOption,
    TokenOption,
    ask,
    show_json,
    tell,
)
from msp_cli.tables import cells, table
from msp_common.contracts.models import GcReport, GcRequest

_KINDS = {
    "unpublished": "files of no snapshot",
    "upload": "broken-off upload",
    "unreferenced": "snapshot that no ref names",
    "job": "record of an ended job",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(rm)
    app.command()(gc)


def rm(
    model: ModelArgument,
    revision: Annotated[
        str | None,
        typer.Option(help="Only this branch, channel or commit; without it, the whole model."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also while workers use it, or nobody can tell whether any does.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal nothing is asked anyway.")
    ] = False,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete a model, or one revision of it, from the store.

    Refused with 4 while a worker uses it. With --force it says which workers will not find it again.
    """
    if not yes and sys.stdin.isatty():
        what = f"{model} at {revision}" if revision else f"{model}, all its revisions,"
        typer.confirm(f"Delete {what} from {registry}?", abort=True, err=True)
    gone = ask(registry, token, lambda api: api.remove(model, revision, force=force))
    if as_json:
        show_json(gone)
        return
    commits = "1 commit" if len(gone.commits) == 1 else f"{len(gone.commits)} commits"
    tell(f"deleted {gone.id}: {commits}, {gone.objects} objects, {decimal(gone.freed_bytes)}")
    if gone.refs:
        tell(f"refs that are gone: {', '.join(gone.refs)}")
    if gone.broke:
        tell(f"workers that use what is gone, and cannot load it again: {', '.join(gone.broke)}")


def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Remove it. Without this nothing is.")] = False,
    older_than: Annotated[
        str, typer.Option(help="Only what is older: a number and s, m, h, d or w.")
    ] = "24h",
    unreferenced: Annotated[
        bool, typer.Option("--unreferenced", help="Also snapshots that no ref names and no worker uses.")
    ] = False,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what can be removed from the store, and how many bytes that frees; remove it with --apply.

    Leftovers are files of snapshots that were never finished, broken-off uploads and old jobs.
    """
    try:
        age_s = durations.seconds(older_than)
    except durations.BadDuration as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    request = GcRequest(dry_run=not apply, older_than_s=age_s, unreferenced=unreferenced)
    report = ask(registry, token, lambda api: api.collect(request))
    if as_json:
        show_json(report)
    else:
        _table(report)


def _table(report: GcReport) -> None:
    if report.items:
        shown = table("what", "name", "objects", "size")
        for item in report.items:
            shown.add_row(*cells(_KINDS[item.kind], item.name, str(item.objects), decimal(item.freed_bytes)))
        Console().print(shown)
    freed = decimal(report.freed_bytes)
    if not report.dry_run:
        tell(f"removed {len(report.items)} things, {freed} freed")
    elif report.items:
        tell(f"{freed} would be freed; remove it with --apply")
    else:
        tell("there is nothing to remove")
