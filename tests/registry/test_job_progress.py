"""A job tells its bytes, its files in hand, its rate and when it will be done."""

import pytest

from msp_common.contracts.jobs import BadFile, DownloadRequest, Job, JobState
from msp_registry.jobs.job_progress import JobProgress
from msp_registry.jobs.transfer_rate import WINDOW_S, TransferRate, eta_s

JOB = Job(
    id="1",
    repo_id="org/a",
    request=DownloadRequest(),
    state=JobState.DOWNLOADING,
    created_at=0,
    updated_at=0,
)


def told(progress: JobProgress, now: float = 0.0, state: JobState = JobState.DOWNLOADING) -> Job:
    return progress.told_in(JOB.model_copy(update={"state": state}), now)


def test_nothing_is_said_of_a_total_before_it_is_known() -> None:
    job = told(JobProgress(0))
    assert (job.bytes_total, job.files_total, job.eta_s, job.progress) == (None, None, None, None)


def test_files_in_hand_are_named_and_the_finished_counted() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 10), ("b", 20), ("c", 30)], 0)
    progress.moved("a", 4, 0)
    progress.moved("b", 20, 0)
    job = told(progress)
    assert [(f.path, f.bytes_done, f.bytes_total) for f in job.files] == [("a", 4, 10), ("b", 20, 20)]
    progress.file_done("b")
    job = told(progress)
    assert [f.path for f in job.files] == ["a"]
    assert (job.bytes_done, job.bytes_total, job.files_done, job.files_total) == (24, 60, 1, 3)


def test_a_file_that_was_there_already_counts_whole_and_not_in_the_rate() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 10), ("b", 10)], 0)
    progress.file_done("a")
    progress.file_done("a")
    job = told(progress, 5)
    assert (job.bytes_done, job.files_done, job.rate_bytes_per_s) == (10, 1, None)


def test_what_an_earlier_run_has_stored_counts_and_not_in_the_rate() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 10_000)], 0)
    progress.resumed("a", 8000)
    progress.moved("a", 100, 1)
    job = told(progress, 2)
    assert (job.bytes_done, job.rate_bytes_per_s, job.files[0].bytes_done) == (8100, 50.0, 8100)


def test_bytes_to_be_done_again_are_taken_back() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 10)], 0)
    progress.moved("a", 8, 0)
    progress.moved("a", -8, 0)
    assert (told(progress).bytes_done, told(progress).files) == (0, [])
    progress.file_done("a")
    progress.moved("a", -10, 0)
    assert (told(progress).bytes_done, told(progress).files_done) == (0, 0)


def test_bytes_taken_back_have_arrived_all_the_same() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 1000)], 0)
    progress.moved("a", 800, 2)
    progress.moved("a", -800, 2)
    assert told(progress, 4).rate_bytes_per_s == 200


def test_no_count_leaves_its_bounds_whatever_is_told() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 10)], 0)
    progress.moved("a", 25, 0)
    progress.moved("unexpected", 7, 0)
    progress.file_done("unexpected")
    assert told(progress).bytes_done == 10
    progress.moved("a", -20, 0)
    assert told(progress).bytes_done == 5
    progress.moved("a", -20, 0)
    assert (told(progress).bytes_done, told(progress).files_done) == (0, 0)


def test_a_second_pass_counts_anew() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 10)], 0)
    progress.file_done("a")
    progress.expect([("a", 10), ("b", 5)], 0)
    job = told(progress)
    assert (job.bytes_done, job.bytes_total, job.files_done, job.files_total) == (0, 15, 0, 2)


def test_a_bad_file_is_told_once_with_the_last_word_on_it() -> None:
    progress = JobProgress(0)
    progress.found_bad(BadFile(path="a", reason="sha256 differs"))
    progress.found_bad(BadFile(path="a", reason="sha256 differs", repaired=True))
    assert told(progress).bad_files == [BadFile(path="a", reason="sha256 differs", repaired=True)]


def test_an_ended_job_names_neither_files_in_hand_nor_a_rate() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 1000)], 0)
    progress.moved("a", 500, 2)
    ended = told(progress, 2, JobState.FAILED)
    assert (ended.files, ended.rate_bytes_per_s, ended.eta_s) == ([], None, None)
    assert ended.bytes_done == 500


def test_the_time_left_follows_from_rate_and_rest() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 1000)], 0)
    for second in range(1, 6):
        progress.moved("a", 100, second)
    job = told(progress, 5)
    assert (job.rate_bytes_per_s, job.eta_s) == (100, 5)


def test_a_steady_line_has_a_steady_rate() -> None:
    rate = TransferRate(0)
    seen = []
    for n in range(1, 400):
        rate.moved(n / 10, 50)
        seen.append(rate.bytes_per_s(n / 10))
    assert seen[:9] == [None] * 9  # too early to tell
    assert all(r == pytest.approx(500, rel=0.07) for r in seen[9:])


def test_a_rate_forgets_what_is_long_ago_and_a_stall_has_none() -> None:
    rate = TransferRate(0)
    rate.moved(1, 1_000_000)
    assert rate.bytes_per_s(2) == 500_000
    rate.moved(20, 1000)
    assert rate.bytes_per_s(20) == 1000 / WINDOW_S
    assert rate.bytes_per_s(40) is None


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    rate = TransferRate(100)
    rate.moved(101, 10)
    rate.moved(50, 10)
    assert rate.bytes_per_s(50) is None


def test_the_next_stage_has_a_rate_of_its_own() -> None:
    progress = JobProgress(0)
    progress.expect([("a", 1000)], 0)
    progress.moved("a", 500, 2)
    progress.next_stage(2)
    assert told(progress, 3).rate_bytes_per_s is None


@pytest.mark.parametrize(
    ("left", "rate", "eta"), [(100, 10.0, 10), (0, 10.0, 0), (5, None, None), (-5, 1.0, 0)]
)
def test_eta(left: int, rate: float | None, eta: float | None) -> None:
    assert eta_s(left, rate) == eta
