"""`msp models pull`: bringing models from a hub into the store."""

from pathlib import Path
from typing import Annotated

import typer

from msp_cli import models_file
from msp_cli.exit_codes import ExitCode
from msp_cli.job_batch import Task
from msp_cli.models_file import DeclaredModel, ModelsFileError
from msp_cli.models_session import (
    DEFAULT_URL,
    JsonOption,
    RegistryOption,
    TokenOption,
    WaitOption,
    end,
    model_id,
    run_one,
    run_several,
)
from msp_cli.registry_api import RegistryApi
from msp_common.contracts.jobs import DownloadRequest, Job


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(pull)


def pull(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model id, such as org/name; or give --file.", show_default=False, callback=model_id
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="YAML file that declares models; all are brought (models.example.yaml)."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit.  \\[default: main]", show_default=False)
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match this pattern; may be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files that match this pattern; may be repeated.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also take weights in pickle form, which can run code.")
    ] = False,
    wait: WaitOption = True,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Bring a model from the hub into the store, or all models that a file declares.

    The registry does the work, and carries on after a restart.
    What is there already is not fetched again: a second run is quick.
    """
    if (model is None) == (file is None):
        raise typer.BadParameter("give either a model or --file")
    if file is not None:
        if revision or include or exclude or allow_pickle:
            raise typer.BadParameter("with --file, revisions and patterns are said in the file")
        tasks = [_task(declared) for declared in _declared(file)]
        run_several(registry, token, tasks, wait=wait, as_json=as_json)
    elif model is not None:
        request = DownloadRequest(
            revision=revision or "main",
            allow_patterns=include or [],
            ignore_patterns=exclude or [],
            allow_pickle=allow_pickle,
        )
        task = Task(model, request.revision, lambda api: api.download(model, request))
        run_one(registry, token, task, wait=wait, as_json=as_json)


def _declared(file: Path) -> list[DeclaredModel]:
    try:
        return models_file.load(file).models
    except ModelsFileError as error:
        end(str(error), ExitCode.USAGE)


def _task(declared: DeclaredModel) -> Task:
    request = declared.request()

    async def begin(api: RegistryApi) -> Job:
        if isinstance(request, DownloadRequest):
            return await api.download(declared.id, request)
        return await api.import_source(declared.id, request)

    return Task(declared.id, declared.revision, begin)
