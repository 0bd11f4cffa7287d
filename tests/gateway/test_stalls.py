"""When a silent worker is held to stand still."""

import pytest

from msp_common.contracts.workers import Verdict, WorkerLoad
from msp_gateway.failures import Happened
from msp_gateway.gaps import Gaps
from msp_gateway.stalls import Limits, Progress, judge, look_after_s, progress_of
from support.gateway_cluster import worker

LIMITS = Limits(look_after_s=60, give_up_after_s=600)


@pytest.mark.parametrize(
    ("age_s", "verdict", "heard_s_ago", "progress"),
    [
        (29.9, Verdict.READY, 1, Progress.MOVES),
        (30.0, Verdict.READY, 1, Progress.STILL),
        (30.0, Verdict.SUSPECT, 1, Progress.STILL),
        (None, Verdict.READY, 1, Progress.UNKNOWN),
        (0.1, Verdict.UNHEALTHY, 1, Progress.STILL),
        (None, Verdict.FAILED, 1, Progress.STILL),
        (90.0, Verdict.READY, 11, Progress.UNKNOWN),
        (0.1, Verdict.UNHEALTHY, None, Progress.UNKNOWN),
    ],
)
def test_progress_is_the_workers_own_word_while_it_is_fresh(
    age_s: float | None, verdict: Verdict, heard_s_ago: float | None, progress: Progress
) -> None:
    told = worker("a", verdict=verdict, load=WorkerLoad(last_progress_age_s=age_s))
    assert progress_of(told, heard_s_ago) is progress


def test_of_a_worker_that_is_not_listed_nothing_is_known() -> None:
    assert progress_of(None, 0) is Progress.UNKNOWN


@pytest.mark.parametrize(
    ("silent_s", "progress", "before", "after"),
    [
        (59.9, Progress.STILL, None, None),
        (60.0, Progress.STILL, Happened.STALLED, Happened.STALLED),
        (599.9, Progress.MOVES, None, None),
        (599.9, Progress.UNKNOWN, None, None),
        (600.0, Progress.MOVES, Happened.NO_FIRST_BYTE, Happened.SILENT),
        (600.0, Progress.UNKNOWN, Happened.NO_FIRST_BYTE, Happened.SILENT),
        (600.0, Progress.STILL, Happened.STALLED, Happened.STALLED),
    ],
)
def test_a_silence_is_borne_as_long_as_the_engine_may_be_at_work(
    silent_s: float, progress: Progress, before: Happened | None, after: Happened | None
) -> None:
    assert judge(silent_s, 60, LIMITS, progress, begun=False) is before
    assert judge(silent_s, 60, LIMITS, progress, begun=True) is after


@pytest.mark.parametrize(("usual_gap_s", "seconds"), [(None, 60), (0.03, 30), (0.4, 40), (2.0, 60)])
def test_a_fast_workers_streams_are_looked_at_sooner(usual_gap_s: float | None, seconds: float) -> None:
    assert look_after_s(usual_gap_s, LIMITS) == seconds


def test_nobody_is_looked_at_later_than_given_up() -> None:
    assert look_after_s(None, Limits(look_after_s=60, give_up_after_s=5)) == 5


def gaps_of(*runs: tuple[int, float]) -> Gaps:
    gaps = Gaps()
    for times, gap_s in runs:
        for _ in range(times):
            gaps.note(gap_s)
    return gaps


def test_a_few_gaps_say_nothing() -> None:
    assert gaps_of((99, 0.05)).p99_s() is None


@pytest.mark.parametrize(
    ("runs", "p99_s"),
    [
        ([(100, 0.05)], 0.064),
        ([(990, 0.05), (10, 3.0)], 0.064),
        ([(980, 0.05), (20, 3.0)], 4.096),
        ([(200, 0.0)], 0.001),
        ([(200, 1e9)], 8388.608),
    ],
)
def test_the_usual_gap_is_told_within_a_factor_of_two(runs: list[tuple[int, float]], p99_s: float) -> None:
    assert gaps_of(*runs).p99_s() == p99_s


def test_what_was_long_ago_is_forgotten() -> None:
    assert gaps_of((4000, 3.0), (30_000, 0.05)).p99_s() == 0.064
