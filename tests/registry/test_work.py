"""Each kind of request goes to the one who can do it, and a download has nobody in offline mode."""

import pytest

from msp_common.contracts.jobs import DownloadRequest, ImportRequest, Job, JobRequest, JobState, VerifyRequest
from msp_registry.failures import RegistryOffline
from msp_registry.jobs.progress import Progress
from msp_registry.jobs.work import work_of
from support.registry_jobs import jobs_over
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress


class Workers:
    """A Bringer, a Taker and a Checker, who remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, JobRequest]] = []

    async def bring(self, repo_id: str, request: DownloadRequest, progress: Progress) -> None:
        self.asked.append(("bring", repo_id, request))

    async def take(self, repo_id: str, request: ImportRequest, progress: Progress) -> None:
        self.asked.append(("take", repo_id, request))

    async def verify(self, repo_id: str, request: VerifyRequest, progress: Progress) -> None:
        self.asked.append(("verify", repo_id, request))


def job(request: JobRequest) -> Job:
    return Job(
        id="1", repo_id="org/a", request=request, state=JobState.REQUESTED, created_at=1.0, updated_at=1.0
    )


@pytest.mark.parametrize(
    ("request_", "who"),
    [
        (DownloadRequest(revision="v1"), "bring"),
        (ImportRequest(source="/models/a"), "take"),
        (VerifyRequest(), "verify"),
    ],
)
async def test_each_request_goes_to_its_worker(request_: JobRequest, who: str) -> None:
    workers = Workers()
    work = work_of(mirror=workers, importer=workers, verifier=workers)
    await work(job(request_), ToldProgress())
    assert workers.asked == [(who, "org/a", request_)]


async def test_an_offline_registry_still_imports_and_verifies() -> None:
    workers = Workers()
    work = work_of(mirror=None, importer=workers, verifier=workers)
    await work(job(ImportRequest(source="/a")), ToldProgress())
    await work(job(VerifyRequest()), ToldProgress())
    assert [who for who, _, _ in workers.asked] == ["take", "verify"]
    with pytest.raises(RegistryOffline):
        await work(job(DownloadRequest()), ToldProgress())


async def test_a_download_that_an_online_registry_left_fails_with_the_remedy_in_an_offline_one() -> None:
    workers, store = Workers(), MemoryStore()
    jobs = jobs_over(store, work_of(mirror=None, importer=workers, verifier=workers))
    left = job(DownloadRequest())
    store.objects[".registry/jobs/1.json"] = left.model_dump_json().encode()
    await jobs.restore()
    ended = await jobs.wait("1")
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == ("registry_offline", False)
    assert "POST /models/org/a/import" in ended.error.message
