"""Jobs in words and numbers. Pure."""

from rich.filesize import decimal

from msp_common.contracts.jobs import Job, JobState


def percent(job: Job) -> str:
    """How much has arrived, where that is known."""
    return "" if job.progress is None else f"{job.progress:.0%}"


def size(amount_bytes: int) -> str:
    """Bytes for people."""
    return decimal(amount_bytes)


def amount(done: int, total: int | None) -> str:
    """Bytes of how many."""
    return decimal(done) if total is None else f"{decimal(done)} of {decimal(total)}"


def duration(seconds: float) -> str:
    """As `0:42` or `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pace(job: Job) -> list[str]:
    """Rate and time left, as far as they are known."""
    if job.state.ended:
        return []
    told = [] if job.rate_bytes_per_s is None else [f"{decimal(int(job.rate_bytes_per_s))}/s"]
    return told if job.eta_s is None else [*told, f"{duration(job.eta_s)} left"]


def line(job: Job) -> str:
    """What the job is doing now, in one line."""
    doing = f"{job.repo_id}: {job.state.lower()} {percent(job)}".rstrip()
    if job.state.ended or not (job.bytes_done or job.bytes_total):
        return doing
    files = f"{job.files_done} of {job.files_total} files" if job.files_total else ""
    told = [amount(job.bytes_done, job.bytes_total), files, *pace(job)]
    return f"{doing} ({', '.join(part for part in told if part)})"


def ending(job: Job) -> str:
    """How the job ended, and why; or that it goes on."""
    head = f"job {job.id}: {job.state.lower()}"
    if job.error:
        again = " (running the command again carries on)" if job.error.retryable else ""
        return f"{head}: {job.error.message}{again}"
    if not job.state.ended:
        return f"{head}; see it with: msp models jobs {job.id}; stop it with: msp models cancel {job.id}"
    return f"{head} {job.commit}" if job.commit and job.state is JobState.SUCCEEDED else head


def findings(job: Job) -> list[str]:
    """One line per bad file that a verification found."""
    return [
        f"{file.path}: {file.reason}" + (" (repaired)" if file.repaired else " (still bad)")
        for file in job.bad_files
    ]
