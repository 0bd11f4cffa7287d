"""A model that the registry lacks is asked for once, and how that goes is the worker's own story."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr

from msp_common.contracts.jobs import JobState
from msp_model_service.weights.auto_download import AutoDownload, sentence
from msp_model_service.weights.cache import Stopped
from msp_model_service.weights.fetch_errors import NotYet
from msp_model_service.weights.registry_jobs import RegistryJobs
from support.servers import free_port
from support.worker_host import FILES, Host, running_host
from support.worker_jobs import FakeDownloads, failed, job

GB = 10**9


@dataclass
class Bench:
    """A worker that brings what is missing, and its clock."""

    host: Host
    downloads: FakeDownloads
    now: float = 0.0
    clients: list[RegistryJobs] = field(default_factory=list)

    def starts(self, token: str | None = None, url: str | None = None) -> None:
        """As a new process does: nothing is remembered."""
        self.clients.append(RegistryJobs(url or self.host.url, SecretStr(token) if token else None))
        self.host.bring = AutoDownload(self.clients[-1], lambda: self.now, look_every_s=0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running_host(tmp_path) as host:
        host.registry.absent = True
        bench = Bench(host, FakeDownloads(host.registry.app))
        bench.starts()
        yield bench
        for client in bench.clients:
            client.close()


def test_the_job_s_progress_is_shown_and_then_the_model_is_fetched(bench: Bench) -> None:
    bench.downloads.story = [
        job(JobState.RESOLVING),
        job(JobState.DOWNLOADING, 31 * GB // 10, 74 * GB // 10),
        job(JobState.VERIFYING, 74 * GB // 10, 74 * GB // 10),
        job(JobState.SUCCEEDED, 74 * GB // 10, 74 * GB // 10),
    ]
    told: list[tuple[str, int, int]] = []

    class Told(list[tuple[str, int, int]]):
        def append(self, news: tuple[str, int, int]) -> None:
            told.append(news)
            if "verifies" in news[0]:
                bench.host.registry.absent = False

    bench.host.progress = Told()
    bench.host.fetch()
    assert bench.host.held() == FILES
    assert told[:3] == [
        ("the registry looks up org/model", 0, 0),
        ("the registry downloads org/model: 3.1 of 7.4 GB", 31 * GB // 10, 74 * GB // 10),
        ("the registry verifies org/model", 74 * GB // 10, 74 * GB // 10),
    ]
    [(name, request)] = bench.downloads.asked
    assert (name, request.revision) == ("org/model", "main")
    assert bench.downloads.authorizations == [None]


def test_every_state_on_the_way_is_a_sentence() -> None:
    said = {sentence(job(state)) for state in JobState if not state.ended}
    assert len(said) == len([state for state in JobState if not state.ended])


def test_the_cluster_token_is_sent_when_there_is_one(bench: Bench) -> None:
    bench.starts(token="opensesame")
    bench.downloads.story = [job(JobState.CANCELLED)]
    with pytest.raises(NotYet):
        bench.host.fetch()
    assert bench.downloads.authorizations == ["Bearer opensesame"]


def test_what_the_registry_holds_is_never_asked_for(bench: Bench) -> None:
    bench.host.registry.absent = False
    bench.host.fetch()
    assert bench.downloads.asked == []


def test_without_auto_download_nobody_is_asked(bench: Bench) -> None:
    bench.host.bring = None
    with pytest.raises(NotYet, match="bring it with `msp models pull org/model`"):
        bench.host.fetch()
    assert bench.downloads.asked == []


def test_a_failure_for_good_is_told_and_not_asked_for_again(bench: Bench) -> None:
    bench.downloads.story = [failed("licence", "accept the licence at HUB/org/model", retryable=False)]
    for _ in range(3):
        with pytest.raises(NotYet, match=r"licence: accept the licence at HUB/org/model"):
            bench.host.fetch()
        bench.now += 3600
    assert len(bench.downloads.asked) == 1
    bench.starts()
    with pytest.raises(NotYet, match="licence"):
        bench.host.fetch()
    assert len(bench.downloads.asked) == 2


def test_a_failure_that_may_pass_is_asked_for_again_after_pauses_that_grow_to_ten_minutes(
    bench: Bench,
) -> None:
    bench.downloads.story = [failed("disk_full", "7 bytes are missing", retryable=True)]
    pauses = []
    for _ in range(6):
        asked = len(bench.downloads.asked)
        began = bench.now
        while len(bench.downloads.asked) == asked:
            with pytest.raises(NotYet, match="disk_full"):
                bench.host.fetch()
            bench.now += 60 if len(bench.downloads.asked) == asked else 0
        pauses.append(bench.now - began)
    assert pauses == [0, 60, 120, 240, 480, 600]


def test_a_cancelled_job_is_not_begun_again(bench: Bench) -> None:
    bench.downloads.story = [job(JobState.CANCELLED)]
    for _ in range(2):
        with pytest.raises(NotYet, match="was cancelled, job j1"):
            bench.host.fetch()
        bench.now += 3600
    assert len(bench.downloads.asked) == 1


def test_a_model_that_is_gone_again_after_the_download_is_not_brought_back(bench: Bench) -> None:
    bench.downloads.story = [job(JobState.SUCCEEDED)]
    with pytest.raises(NotYet, match="has no org/model"):
        bench.host.fetch()
    with pytest.raises(NotYet, match="does not hold it any more"):
        bench.host.fetch()
    assert len(bench.downloads.asked) == 1


def test_an_offline_registry_is_answered_with_how_to_import(bench: Bench) -> None:
    bench.downloads.refuse_with = (409, "registry_offline")
    for _ in range(2):
        with pytest.raises(NotYet, match=r"is offline; import it there with `msp models import org/model"):
            bench.host.fetch()
    assert len(bench.downloads.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_token_is_named_by_its_setting(bench: Bench, status: int) -> None:
    bench.downloads.refuse_with = (status, "invalid_api_key")
    with pytest.raises(NotYet, match="give worker and registry the same CLUSTER_TOKEN"):
        bench.host.fetch()


def test_a_registry_that_restarts_midway_is_followed_on_without_asking_again(bench: Bench) -> None:
    bench.downloads.story = [503, failed("x", "ended", retryable=False)]
    with pytest.raises(NotYet, match="answered 503"):
        bench.host.fetch()
    with pytest.raises(NotYet, match="x: ended"):
        bench.host.fetch()
    assert len(bench.downloads.asked) == 1


def test_a_job_that_the_registry_has_forgotten_is_asked_for_again_after_a_pause(bench: Bench) -> None:
    bench.downloads.story = [404, job(JobState.CANCELLED)]
    with pytest.raises(NotYet, match="has forgotten"):
        bench.host.fetch()
    bench.now += 60
    with pytest.raises(NotYet, match="cancelled"):
        bench.host.fetch()
    assert len(bench.downloads.asked) == 2


def test_a_registry_that_cannot_be_reached_for_the_question_is_waited_for(bench: Bench) -> None:
    bench.starts(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NotYet, match="cannot be reached"):
        bench.host.fetch()


def test_ending_the_worker_ends_the_following(bench: Bench) -> None:
    bench.downloads.story = [job(JobState.DOWNLOADING, 1, 2)]

    class Stopping(list[tuple[str, int, int]]):
        def append(self, news: tuple[str, int, int]) -> None:
            bench.host.stop.set()

    bench.host.progress = Stopping()
    with ThreadPoolExecutor(1) as pool, pytest.raises(Stopped):
        pool.submit(bench.host.fetch).result(10)
