"""`msp models verify`, `jobs` and `cancel`."""

from typing import Annotated

import typer
from rich.console import Console

from msp_cli import exit_codes, job_text
from msp_cli.job_batch import Task
from msp_cli.models_session import (
    DEFAULT_URL,
    JsonOption,
    RegistryOption,
    TokenOption,
    WaitOption,
    ask,
    finish,
    model_id,
    run_one,
    run_several,
    show_job,
    show_json,
    tell,
)
from msp_cli.registry_api import RegistryApi
from msp_cli.tables import cells, table
from msp_common.contracts.jobs import Job, JobList, VerifyRequest

JobArgument = Annotated[str, typer.Argument(help="The job's id.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(verify)
    app.command("jobs")(jobs)
    app.command()(cancel)


def verify(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model id, such as org/name; or give --all.", show_default=False, callback=model_id
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, channel or commit; without it, what main names.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All models; with a model, all its commits.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair/--no-repair", help="Fetch bad files anew where there is a source.")
    ] = True,
    wait: WaitOption = True,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Read every byte back from the store and compare it with the manifest.

    Ends with 7 where bytes are bad and stay so; they are not served any more.
    """
    if revision and everything:
        raise typer.BadParameter("give either --revision or --all")
    if model is None and (revision or not everything):
        raise typer.BadParameter("give a model, or --all")
    if model is not None and not everything:
        run_one(registry, token, _verification(model, revision, repair), wait=wait, as_json=as_json)
        return

    async def chosen(api: RegistryApi) -> list[tuple[str, str | None]]:
        if model is not None:
            return [(model, commit) for commit in (await api.refs(model)).commits]
        return [(found.id, None) for found in (await api.models()).models]

    tasks = [_verification(name, which, repair) for name, which in ask(registry, token, chosen)]
    run_several(registry, token, tasks, wait=wait, as_json=as_json)


def jobs(
    job: Annotated[
        str | None, typer.Argument(help="Only this job, and how it ended.", show_default=False)
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="With a job: show its progress until it has ended.")
    ] = False,
    registry: RegistryOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """List what the registry is doing and what it has done, newest first.

    With a job that has ended, the exit code says how.
    """
    if job is not None:
        if follow:
            begin = Task(job, None, lambda api: api.job(job))
            run_one(registry, "", begin, wait=True, as_json=as_json)
            return
        found = ask(registry, "", lambda api: api.job(job))
        show_job(found, as_json=as_json)
        finish(exit_codes.of_job(found))
        return
    if follow:
        raise typer.BadParameter("--follow needs a job")
    known = ask(registry, "", lambda api: api.jobs())
    if as_json:
        show_json(known)
    else:
        _table(known)


def cancel(
    job: JobArgument,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Stop a job. What it has stored is kept for a while, and a later job carries on with it."""
    stopped = ask(registry, token, lambda api: api.cancel(job))
    if as_json:
        show_json(stopped)
    elif stopped.state.ended:
        tell(job_text.ending(stopped))
    else:
        tell(f"job {stopped.id} is being cancelled ({stopped.state.lower()})")


def _verification(model: str, revision: str | None, repair: bool) -> Task:
    request = VerifyRequest(revision=revision, repair=repair)
    return Task(model, revision, lambda api: api.verify(model, request))


def _table(known: JobList) -> None:
    shown = table("job", "model", "what", "revision", "state", "progress", "why")
    # Ids are copied into the next command.
    shown.columns[0].no_wrap = True
    for job in known.jobs:
        shown.add_row(
            *cells(
                job.id,
                job.repo_id,
                job.request.kind,
                job.revision or "-",
                job.state.lower(),
                _progress(job),
                _why(job),
            )
        )
    Console().print(shown)


def _progress(job: Job) -> str:
    if job.state.ended or not job.bytes_total:
        return ""
    return ", ".join([f"{job_text.percent(job)} of {job_text.size(job.bytes_total)}", *job_text.pace(job)])


def _why(job: Job) -> str:
    bad = sum(not file.repaired for file in job.bad_files)
    if job.error is not None:
        return job.error.message
    return f"{bad} bad files" if bad else ""
