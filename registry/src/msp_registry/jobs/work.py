"""What each kind of job does: the one place that tells them apart."""

from typing import Protocol

from msp_common.contracts.jobs import DownloadRequest, ImportRequest, Job, VerifyRequest
from msp_registry.failures import RegistryOffline
from msp_registry.jobs.jobs import Work
from msp_registry.jobs.progress import Progress


class Bringer(Protocol):
    """Brings models from a hub. Raises JobFailure and StoreError, as all three do."""

    async def bring(self, repo_id: str, request: DownloadRequest, progress: Progress) -> None:
        """Mirror one snapshot."""


class Taker(Protocol):
    """Takes models from where the registry can read them."""

    async def take(self, repo_id: str, request: ImportRequest, progress: Progress) -> None:
        """Import one snapshot."""


class Checker(Protocol):
    """Reads models back."""

    async def verify(self, repo_id: str, request: VerifyRequest, progress: Progress) -> None:
        """Compare one snapshot with its manifest, and repair it where that is asked for."""


def work_of(*, mirror: Bringer | None, importer: Taker, verifier: Checker) -> Work:
    """The work of every job. `mirror` is None when the registry is offline."""

    async def work(job: Job, progress: Progress) -> None:
        match job.request:
            case DownloadRequest():
                if mirror is None:
                    raise RegistryOffline(
                        f"the registry is offline now (REGISTRY_MODE=offline) and cannot go on downloading "
                        f"{job.repo_id}; import it with POST /models/{job.repo_id}/import, or start the "
                        "registry with REGISTRY_MODE=online and ask again"
                    )
                await mirror.bring(job.repo_id, job.request, progress)
            case ImportRequest():
                await importer.take(job.repo_id, job.request, progress)
            case VerifyRequest():
                await verifier.verify(job.repo_id, job.request, progress)

    return work
