"""Several jobs in one run: begun, followed, and told of."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msp_cli import exit_codes, job_text
from msp_cli.exit_codes import ExitCode
from msp_cli.job_following import PATIENCE_S, Watcher, begin, follow
from msp_cli.registry_api import RegistryApi, ServiceAnsweredBadly, ServiceAway, ServiceRefused
from msp_common.contracts.jobs import Job

Begin = Callable[[RegistryApi], Awaitable[Job]]


@dataclass(frozen=True)
class Task:
    """One job to ask for."""

    model_id: str
    revision: str | None
    begin: Begin


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a job, which failed to be seen to its end if there is an error as well."""

    task: Task
    job: Job | None
    error: ServiceAnsweredBadly | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code of this one."""
        if self.error is not None:
            return code_of(self.error)
        return ExitCode.UNEXPECTED if self.job is None else exit_codes.of_job(self.job)

    @property
    def text(self) -> str:
        """How it ended, for people."""
        if self.error is None:
            return "" if self.job is None else job_text.ending(self.job)
        if self.job is None:
            return str(self.error)
        return f"{self.error}; job {self.job.id} carries on once the registry is back"


async def run_all(
    api: RegistryApi, tasks: Sequence[Task], watcher: Watcher, *, wait: bool = True
) -> list[Outcome]:
    """What became of each, in the given order.

    Tasks of one model go one after another, since the registry works at one job of a model at a time; models
    go side by side, as many at once as the registry allows.
    """
    outcomes: list[Outcome | None] = [None] * len(tasks)
    queues: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        queues.setdefault(task.model_id, []).append(number)

    async def work(numbers: list[int]) -> None:
        for place, number in enumerate(numbers):
            # A registry that is away at the start is told of at once; one that is restarted is waited for.
            patience_s = PATIENCE_S if place and wait else 0
            outcomes[number] = await _run(api, tasks[number], watcher, wait, patience_s)

    async with asyncio.TaskGroup() as group:
        for numbers in queues.values():
            group.create_task(work(numbers))
    return [outcome for outcome in outcomes if outcome is not None]


def code_of(error: ServiceAnsweredBadly) -> ExitCode:
    """The exit code of a bad answer."""
    if isinstance(error, ServiceAway):
        return ExitCode.AWAY
    return ExitCode.REFUSED if isinstance(error, ServiceRefused) else ExitCode.UNEXPECTED


async def _run(api: RegistryApi, task: Task, watcher: Watcher, wait: bool, patience_s: float) -> Outcome:
    job = None
    try:
        job = await begin(lambda: task.begin(api), patience_s=patience_s)
        return Outcome(task, await follow(api, job, watcher) if wait else job)
    except ServiceAnsweredBadly as error:
        return Outcome(task, job, error)
