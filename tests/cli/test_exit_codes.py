"""Exit codes that scripts rely on."""

import pytest

from msp_cli.exit_codes import ExitCode, of_job, of_several
from msp_common.contracts.jobs import BadFile, Job, JobState, VerifyRequest


def verified(state: JobState, *bad: BadFile) -> Job:
    return Job(
        id="j",
        repo_id="a/b",
        request=VerifyRequest(),
        state=state,
        bad_files=list(bad),
        created_at=1,
        updated_at=1,
    )


BAD = BadFile(path="x", reason="sha256 differs")
REPAIRED = BadFile(path="x", reason="sha256 differs", repaired=True)


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (verified(JobState.SUCCEEDED), ExitCode.DONE),
        (verified(JobState.SUCCEEDED, REPAIRED), ExitCode.DONE),
        (verified(JobState.SUCCEEDED, REPAIRED, BAD), ExitCode.CORRUPT),
        (verified(JobState.FAILED, BAD), ExitCode.CORRUPT),
        (verified(JobState.VERIFYING, BAD), ExitCode.DONE),
    ],
)
def test_bytes_that_stay_bad_have_their_own_code(job: Job, code: ExitCode) -> None:
    assert of_job(job) is code


def test_several_end_with_the_code_that_asks_for_most() -> None:
    assert of_several([]) is ExitCode.DONE
    assert of_several([ExitCode.DONE, ExitCode.FAILED_RETRYABLE]) is ExitCode.FAILED_RETRYABLE
    assert of_several([ExitCode.FAILED_RETRYABLE, ExitCode.FAILED]) is ExitCode.FAILED
    assert of_several([ExitCode.FAILED, ExitCode.CORRUPT, ExitCode.DONE]) is ExitCode.CORRUPT
    assert of_several(list(ExitCode)) is ExitCode.UNEXPECTED


def test_the_numbers_stay_what_they_are() -> None:
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]
