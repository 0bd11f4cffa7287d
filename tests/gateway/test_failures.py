"""The failure table, row by row."""

import pytest

from msp_common.contracts.workers import ReportKind
from msp_gateway.failures import (
    JUDGEMENTS,
    FailedTry,
    Fault,
    Happened,
    Judgement,
    Retry,
    may_ask,
    of_status,
    of_timeout,
)

ROWS = {
    Happened.CLIENT_ERROR: (Fault.CLIENT, None, Retry.NONE),
    Happened.BACK_PRESSURE: (Fault.NOBODY, None, Retry.ANY),
    Happened.REFUSED: (Fault.WORKER, ReportKind.REFUSED, Retry.ANY),
    Happened.RESET: (Fault.WORKER, ReportKind.RESET, Retry.ONE_OTHER),
    Happened.NO_FIRST_BYTE: (Fault.NOBODY, None, Retry.NONE),
    Happened.STALLED: (Fault.WORKER, ReportKind.STALLED, Retry.NONE),
    Happened.SERVER_ERROR: (Fault.WORKER, ReportKind.SERVER_ERROR, Retry.ONE_OTHER),
    Happened.GARBAGE: (Fault.WORKER, ReportKind.GARBAGE, Retry.ONE_OTHER),
    Happened.BROKEN_OFF: (Fault.WORKER, ReportKind.RESET, Retry.NONE),
    Happened.CLIENT_LEFT: (Fault.NOBODY, None, Retry.NONE),
}


@pytest.mark.parametrize("what", Happened)
def test_each_row_is_judged_as_the_architecture_says(what: Happened) -> None:
    assert JUDGEMENTS[what] == Judgement(*ROWS[what])


def test_only_a_workers_fault_is_reported() -> None:
    for judgement in JUDGEMENTS.values():
        assert (judgement.report is not None) == (judgement.fault is Fault.WORKER)


@pytest.mark.parametrize(
    ("status", "has_retry_after", "what"),
    [
        (200, False, None),
        (204, False, None),
        (302, False, Happened.SERVER_ERROR),
        (400, False, Happened.CLIENT_ERROR),
        (404, True, Happened.CLIENT_ERROR),
        (429, False, Happened.BACK_PRESSURE),
        (429, True, Happened.BACK_PRESSURE),
        (500, True, Happened.SERVER_ERROR),
        (503, False, Happened.SERVER_ERROR),
        (503, True, Happened.BACK_PRESSURE),
    ],
)
def test_what_a_status_means(status: int, has_retry_after: bool, what: Happened | None) -> None:
    assert of_status(status, has_retry_after=has_retry_after) is what


@pytest.mark.parametrize(
    ("age_s", "what"),
    [(None, Happened.NO_FIRST_BYTE), (29.9, Happened.NO_FIRST_BYTE), (30.0, Happened.STALLED)],
)
def test_a_missing_first_byte_is_a_fault_only_when_the_engine_stands_still(
    age_s: float | None, what: Happened
) -> None:
    assert of_timeout(age_s) is what


def tries(*whats: Happened) -> list[FailedTry]:
    return [FailedTry(what, f"w{i}", "m") for i, what in enumerate(whats)]


@pytest.mark.parametrize(
    ("past", "same_model", "stand_in"),
    [
        ((), True, True),
        ((Happened.REFUSED,) * 5, True, True),
        ((Happened.BACK_PRESSURE,) * 2, True, True),
        ((Happened.RESET,), True, False),
        ((Happened.SERVER_ERROR,), True, False),
        ((Happened.GARBAGE,), True, False),
        ((Happened.RESET, Happened.REFUSED), True, False),
        ((Happened.RESET, Happened.SERVER_ERROR), False, False),
        ((Happened.CLIENT_ERROR,), False, False),
        ((Happened.REFUSED, Happened.NO_FIRST_BYTE), False, False),
        ((Happened.STALLED,), False, False),
    ],
)
def test_who_may_be_asked_next(past: tuple[Happened, ...], same_model: bool, stand_in: bool) -> None:
    assert may_ask("m", tries(*past)) is same_model
    assert may_ask("other", tries(*past)) is stand_in
