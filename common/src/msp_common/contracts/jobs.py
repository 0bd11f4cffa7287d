"""A job of the registry: bringing one snapshot of a model into the store, or checking it there."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, computed_field

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


class DownloadRequest(Contract):
    """Body of `POST /models/{name}/download`; all fields are optional."""

    kind: Literal["download"] = "download"
    revision: str = "main"
    allow_patterns: list[str] = []
    ignore_patterns: list[str] = []
    allow_pickle: bool = False


class ImportRequest(Contract):
    """Body of `POST /models/{name}/import`: take files that the registry can read into the store."""

    kind: Literal["import"] = "import"
    source: str
    """Absolute path of a folder or of a tar, below REGISTRY_IMPORT_ROOTS; or `s3://bucket/prefix`."""
    revision: str = "main"


class VerifyRequest(Contract):
    """Body of `POST /models/{name}/verify`: read every byte back and compare it with the manifest."""

    kind: Literal["verify"] = "verify"
    revision: str | None = None
    """None: the model's default revision."""
    repair: bool = True
    """Fetch bad files anew where the registry is online and the snapshot came from its hub."""


JobRequest = Annotated[DownloadRequest | ImportRequest | VerifyRequest, Field(discriminator="kind")]
"""What a job was asked to do; kept with it, so that another process can carry on."""


class JobError(Contract):
    """Why a job failed, and what to do."""

    code: str
    message: str
    retryable: bool


class JobFile(Contract):
    """One file that a job has in hand now."""

    path: str
    bytes_done: int
    bytes_total: int


class BadFile(Contract):
    """A file whose bytes are not what its manifest says."""

    path: str
    reason: str
    repaired: bool = False


class Job(Contract):
    """One job, as `GET /jobs/{id}` tells it."""

    id: str
    repo_id: str
    request: JobRequest
    commit: str | None = None
    state: JobState
    error: JobError | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    files_done: int = 0
    files_total: int | None = None
    files: list[JobFile] = []
    """Files on their way now; the finished ones are only counted."""
    rate_bytes_per_s: float | None = None
    """Over the last seconds; null when the job is not moving bytes."""
    eta_s: float | None = None
    bad_files: list[BadFile] = []
    """What a verification found."""
    created_at: float
    updated_at: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def revision(self) -> str | None:
        """The branch, tag or commit that was asked for; null means the model's default."""
        return self.request.revision

    @property
    def progress(self) -> float | None:
        """Share of the bytes that have arrived, 0 to 1; null while the total is unknown."""
        return None if not self.bytes_total else min(1.0, self.bytes_done / self.bytes_total)


class JobList(Contract):
    """Answer of `GET /jobs`."""

    jobs: list[Job]
