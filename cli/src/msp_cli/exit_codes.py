"""How `msp models` ends, for scripts."""

from collections.abc import Iterable
from enum import IntEnum

from msp_common.contracts.jobs import Job, JobState


class ExitCode(IntEnum):
    """The commands' exit codes; scripts may rely on them."""

    DONE = 0, "done"
    UNEXPECTED = 1, "something unexpected; the text says what"
    USAGE = 2, "the command or a file it was given is wrong; nothing was done"
    AWAY = 3, "the registry or its store cannot be reached; try again later"
    REFUSED = 4, "refused: not found, not allowed, or in conflict with the state of things"
    FAILED_RETRYABLE = 5, "a job failed for a reason that may pass; running the command again carries on"
    FAILED = 6, "a job failed for a reason that stays until somebody acts; the text says how"
    CORRUPT = 7, "bytes that are not what the manifest says, and were not repaired"
    CANCELLED = 8, "the job was cancelled by somebody else"
    INTERRUPTED = 130, "Ctrl-C; jobs of the registry go on"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """A number that knows what it means."""
        made = int.__new__(cls, value)
        made._value_ = value
        made.meaning = meaning
        return made


_GRAVEST_FIRST = (
    ExitCode.UNEXPECTED,
    ExitCode.AWAY,
    ExitCode.CORRUPT,
    ExitCode.FAILED,
    ExitCode.REFUSED,
    ExitCode.CANCELLED,
    ExitCode.FAILED_RETRYABLE,
)


def of_job(job: Job) -> ExitCode:
    """The code of one job. One that still goes on is fine: not waiting for it was asked for."""
    if job.state.ended and any(not file.repaired for file in job.bad_files):
        return ExitCode.CORRUPT
    if job.state is JobState.CANCELLED:
        return ExitCode.CANCELLED
    if job.state is JobState.FAILED:
        return ExitCode.FAILED_RETRYABLE if job.error and job.error.retryable else ExitCode.FAILED
    return ExitCode.DONE


def of_several(codes: Iterable[ExitCode]) -> ExitCode:
    """One code for several: the gravest, so that 5 means that running the command again may help in full."""
    seen = set(codes)
    return next((code for code in _GRAVEST_FIRST if code in seen), ExitCode.DONE)


def described() -> str:
    """All codes and what they mean, a line each, for a help text."""
    return "\n".join(["Exit codes:\n", *(f"{code.value}: {code.meaning}" for code in ExitCode)])
