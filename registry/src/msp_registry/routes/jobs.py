"""Jobs: how downloads, imports and verifications are getting on, and ending one."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from msp_common import sse
from msp_common.contracts.jobs import Job, JobList, JobState
from msp_common.errors import Conflict, NotFound
from msp_registry.jobs.jobs import JobEnded, NoSuchJob
from msp_registry.routes.context import AdminOnly, Parts, PartsDep, jobs_known
from msp_registry.routes.job_events import JobEvents

router = APIRouter(tags=["jobs"])


@router.get("/jobs", summary="Jobs, newest first")
async def list_jobs(
    parts: PartsDep,
    state: Annotated[list[JobState] | None, Query(description="Only jobs in one of these states")] = None,
    model: Annotated[str | None, Query(description="Only jobs of this model, as org/name")] = None,
) -> JobList:
    """Those that run, and the last ones that ended."""
    jobs_known(parts)
    return JobList(
        jobs=[
            job
            for job in parts.jobs.all()
            if (not state or job.state in state) and (model is None or job.repo_id == model)
        ]
    )


@router.get("/jobs/{job_id}", summary="One job")
async def get_job(job_id: str, parts: PartsDep) -> Job:
    """Its state, progress in bytes, rate, and why it failed."""
    job = parts.jobs.get(job_id)
    if job is None:
        raise _not_found(parts, job_id)
    return job


@router.get(
    "/jobs/{job_id}/events",
    summary="One job's changes as server-sent events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `job`, their data a Job; the last one has ended.",
            "content": {sse.MEDIA_TYPE: {}},
        }
    },
)
async def job_events(job_id: str, parts: PartsDep) -> JobEvents:
    """The job as it is now, then each change, a few a second at most.

    The stream ends after the event of the ended job. A comment keeps it open while there is nothing to tell.
    A stream that ends without an ended job was cut by a restart of the registry: ask again.
    """
    await get_job(job_id, parts)
    return JobEvents(parts.jobs.watch(job_id))


@router.post("/jobs/{job_id}/cancel", summary="End a job", dependencies=[AdminOnly])
async def cancel_job(job_id: str, parts: PartsDep) -> Job:
    """What the job has stored stays, invisible, and a later request goes on from there."""
    try:
        return await parts.jobs.cancel(job_id)
    except NoSuchJob:
        raise _not_found(parts, job_id) from None
    except JobEnded as error:
        raise Conflict(f"There is nothing to cancel: {error}.", code="job_ended") from None


def _not_found(parts: Parts, job_id: str) -> NotFound:
    jobs_known(parts)
    return NotFound(f"There is no job {job_id[:80]!r}.", param="job_id", code="job_not_found")
