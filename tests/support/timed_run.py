"""A program's run as a line of time: when it said what, so that the long steps can be named."""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class TimedRun:
    """What a program said, each line with the seconds since the start."""

    name: str
    lines: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0

    def said(self) -> str:
        """All of it."""
        return "\n".join(line for _, line in self.lines)

    def steps(self, at_least_s: float = 1.0) -> list[tuple[float, str]]:
        """Seconds from each line to the next one, where they are many."""
        ends = [at for at, _ in self.lines[1:]] + [self.seconds]
        took = [(end - at, line) for (at, line), end in zip(self.lines, ends, strict=True)]
        return [(seconds, line) for seconds, line in took if seconds >= at_least_s]


def timed_run(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, limit_s: float
) -> TimedRun:
    """Runs it to its end. Raises AssertionError with what it said where it failed or took too long."""
    run = TimedRun(name)
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    overdue = threading.Timer(limit_s, process.kill)
    overdue.start()
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            run.lines.append((time.monotonic() - started, line.rstrip()))
    code = process.wait()
    overdue.cancel()
    run.seconds = time.monotonic() - started
    assert code == 0, f"{name} ended with {code} after {run.seconds:.0f} s:\n{run.said()[-6000:]}"
    return run
