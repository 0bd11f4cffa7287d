"""`msp models refs` and `promote`: which commit a branch or channel names."""

from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console

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
from msp_cli.registry_api import RegistryApi
from msp_cli.tables import cells, table
from msp_common.contracts.models import RefChange, Refs


class Move(BaseModel):
    """A ref that names another commit now, as `--json` tells it."""

    id: str
    ref: str
    before: str | None
    after: str


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(refs)
    app.command()(promote)


def refs(
    model: ModelArgument,
    remove: Annotated[
        str | None, typer.Option("--remove", help="Forget this ref; the commit that it named stays.")
    ] = None,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what each branch and channel of a model names, and which commits there are."""
    if remove is not None:
        known = ask(registry, token, lambda api: api.remove_ref(model, remove))
    else:
        known = ask(registry, token, lambda api: api.refs(model))
    if as_json:
        show_json(known)
        return
    shown = table("commit", "named by")
    for commit in known.commits:
        names = sorted(ref for ref, named in known.refs.items() if named == commit)
        shown.add_row(*cells(commit, ", ".join(names) or "-"))
    Console().print(shown)
    for ref, commit in sorted(known.refs.items()):
        if commit not in known.commits:
            tell(f"{ref} names {commit}, which is not in the store")


def promote(
    model: ModelArgument,
    to: Annotated[str, typer.Option("--to", help="The branch or channel to move; made if new.")] = "prod",
    commit: Annotated[str | None, typer.Option(help="The commit it is to name.")] = None,
    revision: Annotated[
        str | None,
        typer.Option(
            help="Another branch or channel, whose commit is taken.  \\[default: main]", show_default=False
        ),
    ] = None,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a channel such as prod name another commit of a model.

    It says what the channel named before: the same command with that --commit rolls back.
    """
    if commit and revision:
        raise typer.BadParameter("give either --commit or --revision")
    change = RefChange(commit=commit) if commit else RefChange(revision=revision or "main")

    async def move(api: RegistryApi) -> tuple[Refs, Refs]:
        return await api.refs(model), await api.move_ref(model, to, change)

    before, after = ask(registry, token, move)
    moved = Move(id=after.id, ref=to, before=before.refs.get(to), after=after.refs[to])
    if as_json:
        show_json(moved)
    elif moved.before == moved.after:
        tell(f"{moved.id}: {to} names {moved.after} already")
    elif moved.before is None:
        tell(f"{moved.id}: {to} is new and names {moved.after}")
    else:
        tell(f"{moved.id}: {to} moved from {moved.before} to {moved.after}")
        tell(f"to roll back: msp models promote {moved.id} --to {to} --commit {moved.before}")
