"""Jobs: how downloads and imports are getting on."""

from fastapi import APIRouter

from msp_common.contracts.jobs import Job, JobList
from msp_common.errors import NotFound, Unavailable
from msp_registry.routes.context import Parts, PartsDep

router = APIRouter(tags=["jobs"])


@router.get("/jobs", summary="Jobs, newest first")
async def list_jobs(parts: PartsDep) -> JobList:
    """Those that run, and the last ones that ended."""
    _known_or_error(parts)
    return JobList(jobs=parts.jobs.all())


@router.get("/jobs/{job_id}", summary="One job")
async def get_job(job_id: str, parts: PartsDep) -> Job:
    """Its state, progress in bytes, and why it failed."""
    job = parts.jobs.get(job_id)
    if job is None:
        _known_or_error(parts)
        raise NotFound(f"There is no job {job_id[:80]!r}.", param="job_id", code="job_not_found")
    return job


def _known_or_error(parts: Parts) -> None:
    if not parts.jobs.restored.is_set():
        raise Unavailable(
            "The registry has just started and is still reading its jobs from the store.", retry_after_s=2
        )
