"""A job of the registry: bringing one snapshot of a model into the store."""

from enum import StrEnum

from msp_common.contracts.base import Contract


class JobState(StrEnum):
    """The way of a job."""

    REQUESTED = "REQUESTED"
    RESOLVING = "RESOLVING"
    DOWNLOADING = "DOWNLOADING"
    VERIFYING = "VERIFYING"
    PUBLISHING = "PUBLISHING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether the job will not change any more."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class JobError(Contract):
    """Why a job failed, and what to do."""

    code: str
    message: str
    retryable: bool


class Job(Contract):
    """One job, as `GET /jobs/{id}` tells it."""

    id: str
    repo_id: str
    revision: str
    commit: str | None = None
    state: JobState
    error: JobError | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    files_done: int = 0
    files_total: int | None = None
    created_at: float
    updated_at: float

    @property
    def progress(self) -> float | None:
        """Share of the bytes that have arrived, 0 to 1; null while the total is unknown."""
        return None if not self.bytes_total else min(1.0, self.bytes_done / self.bytes_total)


class JobList(Contract):
    """Answer of `GET /jobs`."""

    jobs: list[Job]


class DownloadRequest(Contract):
    """Body of `POST /models/{name}/download`; all fields are optional."""

    revision: str = "main"
    allow_patterns: list[str] = []
    ignore_patterns: list[str] = []
    allow_pickle: bool = False


class ImportRequest(Contract):
    """Body of `POST /models/{name}/import`: take a folder that the registry can read into the store."""

    folder: str
    revision: str = "main"
