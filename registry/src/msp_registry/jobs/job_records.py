"""Jobs as they rest in the store: `.registry/jobs/{id}.json`, small, and readable by the next version."""

import logging

from pydantic import ValidationError

from msp_common.contracts.jobs import Job, JobState
from msp_registry.layout import JOBS, job_key
from msp_registry.stores.store import BadKey, NoSuchObject, ObjectStore, StoreError, read_small

KEPT_ENDED_JOBS = 200
KEPT_BAD_FILES = 100
"""Of a verification's findings; they are told whole while the process lives that made them."""

_MAX_RECORD_BYTES = 1 << 20

log = logging.getLogger(__name__)


class BadRecord(ValueError):
    """What is stored is no job, or one of a version whose jobs cannot be carried on."""


def record_of(job: Job) -> bytes:
    """The job without what is of no use to another process: files in hand, rate and ETA."""
    kept = job.model_copy(
        update={
            "files": [],
            "rate_bytes_per_s": None,
            "eta_s": None,
            "bad_files": job.bad_files[:KEPT_BAD_FILES],
        }
    )
    return kept.model_dump_json(exclude={"revision"}).encode()


def job_of(key: str, record: bytes) -> Job:
    """The job that is stored under a key. Raises BadRecord."""
    try:
        job = Job.model_validate_json(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRecord(f"{where}: {first['msg']}" if where else first["msg"]) from None
    if job_key(job.id) != key:
        raise BadRecord(f"it says that it is job {job.id[:80]!r}")
    return job


def asked_anew(job: Job, now: float) -> Job:
    """An unfinished job of an earlier process as it begins again: same id, same place in the order.

    What it had stored is found by the work itself.
    """
    return Job(
        id=job.id,
        repo_id=job.repo_id,
        request=job.request,
        state=JobState.REQUESTED,
        created_at=job.created_at,
        updated_at=now,
    )


class JobRecords:
    """Reads and writes them. Every method raises StoreError."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def write(self, job: Job) -> None:
        """Replace the job's record."""
        await self._store.put(job_key(job.id), record_of(job))

    async def forget(self, job_id: str) -> None:
        """Remove the job's record."""
        await self._store.delete(job_key(job_id))

    async def read_all(self) -> list[Job]:
        """All jobs that can be read, oldest first. The others are logged, left alone and passed over."""
        jobs, bad = [], []
        async for stat in self._store.list(JOBS):
            try:
                jobs.append(await self._read(stat.key, stat.size_bytes))
            except NoSuchObject:
                continue
            except (BadRecord, BadKey) as error:
                bad.append(f"{stat.key}: {error}")
        if bad:
            log.error(
                "%d object(s) below %s are no jobs of this version and are passed over; remove them if no "
                "other version needs them. The first is %s",
                len(bad),
                JOBS,
                bad[0],
            )
        return sorted(jobs, key=lambda job: (job.created_at, job.id))

    async def _read(self, key: str, size_bytes: int) -> Job:
        if size_bytes > _MAX_RECORD_BYTES:
            raise BadRecord(f"{size_bytes} bytes are too many for a job")
        return job_of(key, await read_small(self._store, key, _MAX_RECORD_BYTES))

    async def forget_all(self, job_ids: list[str]) -> None:
        """Remove records that nobody misses: a store that fails keeps them until the next start."""
        for job_id in job_ids:
            try:
                await self.forget(job_id)
            except StoreError as error:
                log.warning("old job %s could not be removed from the store: %s", job_id, error)
                return


def beyond_the_kept(ended: list[Job]) -> list[str]:
    """Ids of the ended jobs that are too old to be kept."""
    newest_first = sorted(ended, key=lambda job: (job.created_at, job.id), reverse=True)
    return [job.id for job in newest_first[KEPT_ENDED_JOBS:]]
