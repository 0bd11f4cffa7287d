"""What all `msp models` commands share: options, one conversation with the registry, and how it ends."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, NoReturn, TypeVar

import httpx
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.filesize import decimal

from msp_cli import exit_codes, job_text
from msp_cli.authorities import authorities_for
from msp_cli.exit_codes import ExitCode
from msp_cli.job_batch import Outcome, Task, code_of, run_all
from msp_cli.job_board import JobBoard
from msp_cli.registry_api import RegistryApi, ServiceAnsweredBadly
from msp_cli.tables import cells, table
from msp_common.contracts.jobs import Job
from msp_common.model_ids import InvalidModelId, parse_model_id

T = TypeVar("T")

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


def model_id(text: str | None) -> str | None:
    """A model id as the registry takes it; anything else is a mistake in the command."""
    try:
        return None if text is None else parse_model_id(text)
    except InvalidModelId as error:
        raise typer.BadParameter(str(error)) from None


ModelArgument = Annotated[
    str, typer.Argument(help="Model id, such as org/name.", show_default=False, callback=model_id)
]
JsonOption = Annotated[bool, typer.Option("--json", help="The answer as JSON, on standard output.")]
WaitOption = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait",
        help="Follow the job to its end. Ctrl-C only stops following; the job goes on.",
    ),
]
DEFAULT_URL = "http://127.0.0.1:8090"


class Result(BaseModel):
    """What became of one of several jobs, as `--json` tells it."""

    id: str
    revision: str | None
    exit_code: int
    error: str | None
    job: Job | None


class Results(BaseModel):
    """What became of several jobs."""

    results: list[Result]


def ask(registry: str, token: str, work: Callable[[RegistryApi], Awaitable[T]]) -> T:
    """What `work` gets from the registry; a bad answer ends the command."""

    async def talk() -> T:
        verify, limits = authorities_for(registry), httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(verify=verify, trust_env=False, timeout=30, limits=limits) as client:
            return await work(RegistryApi(client, registry, token or None))

    try:
        return asyncio.run(talk())
    except ServiceAnsweredBadly as error:
        end(str(error), code_of(error))


def run_one(registry: str, token: str, task: Task, *, wait: bool, as_json: bool) -> None:
    """Run one job, show how it ended, and end the command with its exit code."""
    (outcome,) = run_tasks(registry, token, [task], wait=wait)
    if outcome.error is not None:
        end(outcome.text, outcome.code)
    if outcome.job is not None:
        show_job(outcome.job, as_json=as_json)
    finish(outcome.code)


def run_several(registry: str, token: str, tasks: Sequence[Task], *, wait: bool, as_json: bool) -> None:
    """Run all jobs, show a table of how they ended, and end the command with the gravest exit code."""
    outcomes = run_tasks(registry, token, tasks, wait=wait)
    if as_json:
        results = [
            Result(
                id=o.task.model_id,
                revision=o.task.revision,
                exit_code=o.code,
                error=str(o.error) if o.error else None,
                job=o.job,
            )
            for o in outcomes
        ]
        show_json(Results(results=results))
    else:
        _summary(outcomes)
    finish(exit_codes.of_several(outcome.code for outcome in outcomes))


def run_tasks(registry: str, token: str, tasks: Sequence[Task], *, wait: bool) -> list[Outcome]:
    """What became of each task. Ctrl-C ends the command and says how to see and to stop what goes on."""
    board = JobBoard(Console(stderr=True))
    try:
        with board:
            return ask(registry, token, lambda api: run_all(api, tasks, board, wait=wait))
    except KeyboardInterrupt:
        for job in board.unfinished:
            say(
                f"{job.repo_id} goes on as job {job.id}; see it with: msp models jobs {job.id} --follow; "
                f"stop it with: msp models cancel {job.id}"
            )
        if not board.unfinished:
            say("no job was begun as far as is known; look with: msp models jobs")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def show_job(job: Job, *, as_json: bool) -> None:
    """How a job is, on standard output."""
    if as_json:
        show_json(job)
        return
    for text in (*job_text.findings(job), job_text.ending(job)):
        tell(text)


def show_json(answer: BaseModel) -> None:
    """An answer for programs, on standard output."""
    typer.echo(answer.model_dump_json(indent=2))


def tell(text: str) -> None:
    """A line of the answer, on standard output."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line beside the answer, on standard error."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def end(text: str, code: ExitCode) -> NoReturn:
    """End the command with a message."""
    say(text)
    raise typer.Exit(code)


def finish(code: ExitCode) -> None:
    """End the command, unless all is well."""
    if code is not ExitCode.DONE:
        raise typer.Exit(code)


def _summary(outcomes: Sequence[Outcome]) -> None:
    shown = table("model", "revision", "outcome", "commit", "size", "why")
    for outcome in outcomes:
        job = outcome.job
        why = [str(outcome.error)] if outcome.error else []
        if job is not None:
            why += [*([job.error.message] if job.error else []), *job_text.findings(job)]
        shown.add_row(
            *cells(
                outcome.task.model_id,
                outcome.task.revision or "-",
                "refused" if job is None else job.state.lower(),
                (job.commit or "-")[:12] if job else "-",
                decimal(job.bytes_total) if job and job.bytes_total is not None else "-",
                "\n".join(why),
            )
        )
    Console().print(shown)
    bad = sum(outcome.code is not ExitCode.DONE for outcome in outcomes)
    tell(f"{len(outcomes) - bad} of {len(outcomes)} are well" + (f", {bad} not" if bad else ""))
