"""Jobs in the store are small, survive bad neighbours, and begin again where a process died."""

import json
import logging

import pytest

from msp_common.contracts.jobs import (
    BadFile,
    DownloadRequest,
    ImportRequest,
    Job,
    JobError,
    JobFile,
    JobRequest,
    JobState,
    VerifyRequest,
)
from msp_registry.jobs.job_records import (
    KEPT_BAD_FILES,
    KEPT_ENDED_JOBS,
    BadRecord,
    JobRecords,
    asked_anew,
    beyond_the_kept,
    job_of,
    record_of,
)
from msp_registry.stores.store import StoreUnavailable
from support.registry_memory_store import MemoryStore


def job(job_id: str = "1", request: JobRequest | None = None, created_at: float = 5.0) -> Job:
    return Job(
        id=job_id,
        repo_id="org/a",
        request=request or DownloadRequest(revision="v1", allow_patterns=["*.json"]),
        commit="c" * 40,
        state=JobState.DOWNLOADING,
        error=JobError(code="x", message="y", retryable=True),
        bytes_done=7,
        bytes_total=9,
        created_at=created_at,
        updated_at=6.0,
    )


@pytest.mark.parametrize(
    "request_",
    [DownloadRequest(), ImportRequest(source="/models/a"), VerifyRequest(revision="v1", repair=False)],
)
def test_what_was_asked_is_kept_with_the_job(request_: JobRequest) -> None:
    kept = job(request=request_)
    assert job_of(".registry/jobs/1.json", record_of(kept)) == kept


def test_a_record_stays_small_however_many_files_there_are() -> None:
    files = [JobFile(path=f"{n:0200}", bytes_done=1, bytes_total=2) for n in range(5000)]
    bad = [BadFile(path=f"{n:0200}", reason="r") for n in range(5000)]
    record = record_of(job().model_copy(update={"files": files, "bad_files": bad, "rate_bytes_per_s": 3.0}))
    assert len(record) < 64 << 10
    read = job_of(".registry/jobs/1.json", record)
    assert (read.files, read.rate_bytes_per_s, len(read.bad_files)) == ([], None, KEPT_BAD_FILES)


@pytest.mark.parametrize(
    "record",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        # One of an earlier version: it does not say what was asked for.
        json.dumps(
            {
                "id": "1",
                "repo_id": "org/a",
                "revision": "main",
                "state": "DOWNLOADING",
                "created_at": 1,
                "updated_at": 2,
            }
        ).encode(),
        record_of(job("other")),
        record_of(job()).replace(b'"download"', b'"teleport"'),
    ],
)
def test_what_is_no_job_is_refused(record: bytes) -> None:
    with pytest.raises(BadRecord):
        job_of(".registry/jobs/1.json", record)


async def test_bad_neighbours_are_passed_over_and_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    records = JobRecords(store)
    await records.write(job("2", created_at=2))
    await records.write(job("1", created_at=3))
    store.objects[".registry/jobs/damaged.json"] = b"{"
    store.objects[".registry/jobs/huge.json"] = b" " * ((1 << 20) + 1)
    store.objects[".registry/jobs/deep/er.txt"] = b"?"
    with caplog.at_level(logging.ERROR):
        assert [j.id for j in await records.read_all()] == ["2", "1"]
    assert len(caplog.records) == 1
    assert "3 object(s)" in caplog.text
    assert ".registry/jobs/damaged.json" in store.objects


async def test_a_store_that_is_away_is_no_bad_record() -> None:
    store = MemoryStore()
    store.down = True
    with pytest.raises(StoreUnavailable):
        await JobRecords(store).read_all()


def test_an_unfinished_job_begins_again_as_itself() -> None:
    anew = asked_anew(job(), 50.0)
    assert (anew.id, anew.request, anew.created_at) == ("1", job().request, 5.0)
    assert (anew.state, anew.bytes_done, anew.bytes_total, anew.error) == (JobState.REQUESTED, 0, None, None)


def test_the_oldest_ended_jobs_are_not_kept() -> None:
    ended = [job(f"{n}", created_at=n) for n in range(KEPT_ENDED_JOBS + 2)]
    assert beyond_the_kept(ended) == ["1", "0"]
    assert beyond_the_kept(ended[:KEPT_ENDED_JOBS]) == []


async def test_a_store_that_fails_keeps_old_records_for_later() -> None:
    store = MemoryStore()
    records = JobRecords(store)
    await records.write(job())
    store.down = True
    await records.forget_all(["1"])
    store.down = False
    await records.forget_all(["1"])
    assert store.objects == {}
