"""Processes of this machine: who one is, whether it lives, how to end it. Linux only (`/proc`)."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ProcessIdentity(BaseModel):
    """One process, for good: its number is used again later, together with its start it is not."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start_ticks: int
    """When it was started, in clock ticks after the machine's own start."""
    boot_id: str


def identify(pid: int) -> ProcessIdentity | None:
    """Who has this number now; None if nobody has, or if it ended and only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in parentheses, which may hold spaces and parentheses itself.
    state, *fields = stat[stat.rindex(")") + 1 :].split()
    if state in ("Z", "X"):
        return None
    return ProcessIdentity(pid=pid, start_ticks=int(fields[18]), boot_id=_boot_id())


def alive(process: ProcessIdentity) -> bool:
    """Whether this very process still runs."""
    return identify(process.pid) == process


def start(
    command: Sequence[str], *, environ: Mapping[str, str], cwd: Path, log: Path, append: bool
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that the terminal's Ctrl-C does not reach it."""
    with log.open("ab" if append else "wb") as output:
        return subprocess.Popen(  # noqa: S603  (the command comes from the operator's own file)
            command,
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(
    processes: Mapping[str, ProcessIdentity],
    grace_s: float,
    say: Callable[[str], None],
    reap: Callable[[], None] = lambda: None,
) -> None:
    """End these processes and their groups: SIGTERM to all, then SIGKILL to those that outlive the grace.

    `reap` is called between looks, for a caller who is their parent.
    """
    groups = {name: p.pid for name, p in processes.items() if _group_is_ours(p)}
    for group in groups.values():
        _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := _living(groups, reap)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for name, group in left.items():
        say(f"{name} did not end within {grace_s:g} s after SIGTERM; killing it")
        _signal_group(group, signal.SIGKILL)
    while _living(left, reap):
        time.sleep(0.02)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _living(groups: Mapping[str, int], reap: Callable[[], None]) -> dict[str, int]:
    reap()
    return {name: group for name, group in groups.items() if _members(group)}


def _group_is_ours(process: ProcessIdentity) -> bool:
    """Whether the group that this process led still is its own.

    A number is not given out again while a group bears it, so members without a leader are ours.
    """
    now = identify(process.pid)
    if now is None:
        return process.boot_id == _boot_id() and bool(_members(process.pid))
    return now == process


def _members(group: int) -> list[int]:
    """The living processes of a group; those that only wait to be reaped do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                state, _, process_group = stat[stat.rindex(")") + 1 :].split()[:3]
                if int(process_group) == group and state not in ("Z", "X"):
                    found.append(int(entry.name))
    return found


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
