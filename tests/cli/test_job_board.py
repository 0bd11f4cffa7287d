"""What is shown of jobs, on a terminal and elsewhere."""

import io
from typing import Any

from rich.console import Console

from msp_cli.job_board import QUIET_S, JobBoard
from msp_common.contracts.jobs import DownloadRequest, Job, JobFile, JobState


def job(**facts: Any) -> Job:
    base = {"state": JobState.DOWNLOADING, "created_at": 1, "updated_at": 1}
    return Job(id="j1", repo_id="acme/chat", request=DownloadRequest(), **{**base, **facts})


def shown_on_terminal(*jobs: Job, away: str = "") -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, height=40, color_system=None)
    with JobBoard(console) as board:
        for one in jobs:
            board.tell(one)
            if away:
                board.away(one, away)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Lines:
    """A board that writes lines, and a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.console = Console(file=io.StringIO(), width=160)
        self.board = JobBoard(self.console, lambda: self.now)

    def tell(self, one: Job) -> list[str]:
        assert isinstance(self.console.file, io.StringIO)
        before = self.console.file.getvalue()
        self.board.tell(one)
        return self.console.file.getvalue().removeprefix(before).splitlines()


def test_a_terminal_shows_the_job_and_the_files_it_has_in_hand() -> None:
    files = [JobFile(path="a.safetensors", bytes_done=10, bytes_total=40)]
    shown = shown_on_terminal(
        job(
            bytes_done=50,
            bytes_total=200,
            files_done=1,
            files_total=7,
            files=files,
            rate_bytes_per_s=2_000_000,
            eta_s=75,
        )
    )
    for part in ("acme/chat downloading", "50 bytes of 200 bytes", "1/7 files", "2.0 MB/s", "1:15 left"):
        assert part in shown
    assert "a.safetensors" in shown
    assert "10 bytes of 40 bytes" in shown


def test_many_files_in_hand_do_not_fill_the_screen() -> None:
    files = [JobFile(path=f"part-{n}", bytes_done=0, bytes_total=1) for n in range(20)]
    shown = shown_on_terminal(job(files=files))
    assert "part-7" in shown
    assert "part-8" not in shown
    assert "and 12 more" in shown


def test_a_terminal_says_that_the_registry_is_away() -> None:
    shown = shown_on_terminal(job(rate_bytes_per_s=5), away="refused").rpartition("acme/chat")[2]
    assert "waiting for the registry" in shown
    assert "bytes/s" not in shown


def test_a_job_that_has_ended_has_no_pace() -> None:
    ended = job(state=JobState.SUCCEEDED, rate_bytes_per_s=5, eta_s=9)
    assert "bytes/s" not in shown_on_terminal(ended)


def test_names_are_shown_as_they_are() -> None:
    files = [JobFile(path="[red]x[/].bin", bytes_done=0, bytes_total=1)]
    assert "[red]x[/].bin" in shown_on_terminal(job(files=files))


def test_elsewhere_a_line_is_written_per_state_and_per_tenth() -> None:
    lines = Lines()
    assert lines.tell(job(bytes_total=100)) == ["acme/chat: downloading 0% (0 bytes of 100 bytes)"]
    assert lines.tell(job(bytes_total=100, bytes_done=9)) == []
    assert lines.tell(job(bytes_total=100, bytes_done=10)) == [
        "acme/chat: downloading 10% (10 bytes of 100 bytes)"
    ]
    assert lines.tell(job(state=JobState.VERIFYING)) == ["acme/chat: verifying"]


def test_elsewhere_a_slow_job_is_still_heard_of() -> None:
    lines = Lines()
    lines.tell(job(bytes_total=1000, bytes_done=1))
    lines.now = QUIET_S
    assert lines.tell(job(bytes_total=1000, bytes_done=2)) != []
