"""What a person sees while jobs go on: live bars on a terminal, a line per step elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from msp_cli import job_text
from msp_common.contracts.jobs import Job

STEP = 0.1
"""Elsewhere than on a terminal: a line each time this share more has arrived,"""

QUIET_S = 30
"""or so many seconds after the last one."""

FILES_SHOWN = 8
"""Of each job; more lines than a terminal has would not be redrawn in place."""


class JobBoard:
    """One line per job, and one per file that it has in hand."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._away: dict[str, str] = {}
        self._said: dict[str, tuple[str, int, float]] = {}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        """Start showing."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; the last state stays on the screen."""
        if self._console.is_terminal:
            self._live.stop()

    @property
    def unfinished(self) -> list[Job]:
        """Jobs that had not ended when they were last told of."""
        return [job for job in self._jobs.values() if not job.state.ended]

    def tell(self, job: Job) -> None:
        """The job has changed, perhaps."""
        self._jobs[job.id] = job
        back = self._away.pop(job.id, None)
        if self._console.is_terminal:
            return
        if back:
            self._say(f"{job.repo_id}: the registry is back")
        state, step, now = str(job.state), int((job.progress or 0) / STEP), self._clock()
        said = self._said.get(job.id)
        if said is None or said[:2] != (state, step) or now - said[2] >= QUIET_S:
            self._said[job.id] = (state, step, now)
            self._say(job_text.line(job))

    def away(self, job: Job, why: str) -> None:
        """The registry cannot be asked for now."""
        if job.id not in self._away and not self._console.is_terminal:
            self._say(f"{job.repo_id}: waiting for the registry: {why}")
        self._away[job.id] = why

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for job in self._jobs.values():
            doing = "waiting for the registry" if job.id in self._away else job.state.lower()
            table.add_row(
                f"[bold]{escape(job.repo_id)}[/] {doing}",
                _bar(job.bytes_done, job.bytes_total),
                job_text.amount(job.bytes_done, job.bytes_total),
                "" if job.files_total is None else f"{job.files_done}/{job.files_total} files",
                "" if job.id in self._away else " ".join(job_text.pace(job)),
            )
            for file in job.files[:FILES_SHOWN] if not job.state.ended else ():
                table.add_row(
                    f"  {escape(file.path)}",
                    _bar(file.bytes_done, file.bytes_total),
                    job_text.amount(file.bytes_done, file.bytes_total),
                )
            if (more := len(job.files) - FILES_SHOWN) > 0 and not job.state.ended:
                table.add_row(f"  and {more} more")
        return table


def _bar(done: int, total: int | None) -> RenderableType:
    return "" if not total else ProgressBar(total=total, completed=min(done, total), width=24)
