"""`msp models`: what the registry holds."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import httpx
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from msp_cli.registry_api import RegistryApi, ServiceAnsweredBadly
from msp_cli.starting import wait_for_job
from msp_cli.tables import cells, table
from msp_common.contracts.jobs import DownloadRequest, ImportRequest, Job, JobState

T = TypeVar("T")
app = typer.Typer(name="models", help="Models that the registry holds.", no_args_is_help=True)

RegistryOption = Annotated[
    str, typer.Option("--registry", envvar="REGISTRY_URL", help="Where the registry is.")
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="REGISTRY_ADMIN_TOKEN",
        help="The registry's admin token, for what changes something.",
        show_default=False,
    ),
]
ModelArgument = Annotated[str, typer.Argument(help="Model id, such as org/name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the job has ended.")]
DEFAULT_URL = "http://127.0.0.1:8090"


@app.command("list")
def list_models(registry: RegistryOption = DEFAULT_URL, as_json: JsonOption = False) -> None:
    """List all models."""
    models = _ask(registry, "", lambda api: api.models())
    if as_json:
        _json(models)
        return
    shown = table("model", "commit", "revisions", "size", "format", "parameters")
    for model in models.models:
        parameters = f"{model.parameters:,}" if model.parameters is not None else "-"
        revisions = ", ".join(model.refs)
        shown.add_row(
            *cells(
                model.id, model.commit[:12], revisions, decimal(model.total_bytes), model.format, parameters
            )
        )
    Console().print(shown)


@app.command()
def info(
    model: ModelArgument,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    registry: RegistryOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Show one model and its files."""
    found = _ask(registry, "", lambda api: api.info(model, revision))
    if as_json:
        _json(found)
        return
    manifest = found.manifest
    console = Console()
    console.print(f"[bold]{escape(found.id)}[/] at {found.commit} ({escape(found.revision)})")
    console.print(f"{decimal(manifest.total_bytes)}, {manifest.format}, from {manifest.source}", markup=False)
    if manifest.licence.id or manifest.licence.name:
        console.print(f"licence: {manifest.licence.name or manifest.licence.id}", markup=False)
    shown = table("file", "size", "sha256")
    for file in manifest.files:
        shown.add_row(*cells(file.path, decimal(file.size_bytes), file.sha256[:16]))
    console.print(shown)


@app.command()
def download(
    model: ModelArgument,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    allow: Annotated[list[str] | None, typer.Option(help="Only files that match; may be repeated.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="No files that match; may be repeated.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also take weights in pickle form, which can run code.")
    ] = False,
    wait: WaitOption = True,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Mirror a model from the hub into the store."""
    request = DownloadRequest(
        revision=revision,
        allow_patterns=allow or [],
        ignore_patterns=ignore or [],
        allow_pickle=allow_pickle,
    )
    _job(registry, token, lambda api: api.download(model, request), wait, as_json)


@app.command("import")
def import_folder(
    model: ModelArgument,
    folder: Annotated[Path, typer.Argument(help="Folder, as the registry sees it.")],
    revision: Annotated[str, typer.Option(help="The name to import it under.")] = "main",
    wait: WaitOption = True,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take a folder that the registry can read into the store."""
    # A relative folder is meant from here, where it exists; else it is left to the registry to find.
    shown = folder.resolve() if folder.exists() else folder
    request = ImportRequest(folder=str(shown), revision=revision)
    _job(registry, token, lambda api: api.import_folder(model, request), wait, as_json)


@app.command()
def rm(
    model: ModelArgument,
    force: Annotated[bool, typer.Option("--force", help="Also while workers use it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
) -> None:
    """Delete a model, all its revisions, from the store."""
    if not yes:
        typer.confirm(f"Delete {model} from {registry}?", abort=True)
    _ask(registry, token, lambda api: api.remove(model, force=force))
    Console().print(f"deleted {model}", markup=False, highlight=False)


def _job(
    registry: str, token: str, begin: Callable[[RegistryApi], Awaitable[Job]], wait: bool, as_json: bool
) -> None:
    console = Console(stderr=True)
    last = ""

    def tell(job: Job) -> None:
        nonlocal last
        share = "" if job.progress is None else f" {job.progress:.0%}"
        if (line := f"{job.repo_id}: {job.state.lower()}{share}") != last:
            console.print(last := line, markup=False, highlight=False)

    async def work(api: RegistryApi) -> Job:
        job = await begin(api)
        return await wait_for_job(api, job, tell) if wait else job

    job = _ask(registry, token, work)
    if as_json:
        _json(job)
    else:
        text = job.error.message if job.error else (job.commit or "")
        Console().print(f"job {job.id}: {job.state.lower()} {text}", markup=False, highlight=False)
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise typer.Exit(1)


def _ask(registry: str, token: str, work: Callable[[RegistryApi], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await work(RegistryApi(client, registry, token or None))

    try:
        return asyncio.run(ask())
    except ServiceAnsweredBadly as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _json(answer: BaseModel) -> None:
    typer.echo(answer.model_dump_json(indent=2))
