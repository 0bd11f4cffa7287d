"""The failure table, row by row."""

import pytest

from msp_common.contracts.workers import ReportKind, Verdict
from msp_gateway.failures import (
    JUDGEMENTS,
    FailedTry,
    Fault,
    Happened,
    Judgement,
    Lack,
    Retry,
    may_ask,
    of_no_connection,
    of_refusal,
    of_status,
)

ROWS = {
    Happened.CLIENT_ERROR: (Fault.CLIENT, None, Retry.NONE),
    Happened.TOO_LONG: (Fault.CLIENT, None, Retry.STAND_IN),
    Happened.WRONG_MODALITY: (Fault.CLIENT, None, Retry.STAND_IN),
    Happened.BACK_PRESSURE: (Fault.NOBODY, None, Retry.ANY),
    Happened.LEAVING: (Fault.NOBODY, None, Retry.ANY),
    Happened.REFUSED: (Fault.WORKER, ReportKind.REFUSED, Retry.ANY),
    Happened.RESET: (Fault.WORKER, ReportKind.RESET, Retry.ONE_OTHER),
    Happened.NO_FIRST_BYTE: (Fault.NOBODY, None, Retry.NONE),
    Happened.SILENT: (Fault.NOBODY, None, Retry.NONE),
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


def test_an_external_servers_word_on_its_key_is_not_the_clients_fault() -> None:
    for status in (401, 403):
        assert of_status(status, has_retry_after=False) is Happened.CLIENT_ERROR
        assert of_status(status, has_retry_after=False, external=True) is Happened.SERVER_ERROR
    assert of_status(404, has_retry_after=False, external=True) is Happened.CLIENT_ERROR


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
    ("code", "param", "takes", "what"),
    [
        ("context_length_exceeded", "messages", ["text"], Happened.TOO_LONG),
        ("context_length_exceeded", None, ["text"], Happened.TOO_LONG),
        ("unsupported_value", "messages.0.content.1.image_url", ["text"], Happened.WRONG_MODALITY),
        ("invalid_value", "messages.0.content.1.input_audio", ["text", "image"], Happened.WRONG_MODALITY),
        ("invalid_image_url", "messages.0.content.1.image_url", ["text", "image"], Happened.CLIENT_ERROR),
        ("unsupported_value", "tools", ["text"], Happened.CLIENT_ERROR),
        (None, None, ["text"], Happened.CLIENT_ERROR),
    ],
)
def test_what_a_refusal_means(code: str | None, param: str | None, takes: list[str], what: Happened) -> None:
    assert of_refusal(code, param, takes) is what


@pytest.mark.parametrize(
    ("verdict", "what"),
    [
        (Verdict.READY, Happened.REFUSED),
        (Verdict.SUSPECT, Happened.REFUSED),
        (Verdict.UNHEALTHY, Happened.REFUSED),
        (Verdict.DRAINING, Happened.LEAVING),
        (None, Happened.LEAVING),
    ],
)
def test_who_said_that_it_leaves_is_not_to_blame_for_being_gone(
    verdict: Verdict | None, what: Happened
) -> None:
    assert of_no_connection(verdict) is what


def tries(*whats: Happened) -> list[FailedTry]:
    return [FailedTry(what, f"w{i}", "m") for i, what in enumerate(whats)]


UNAVAILABLE, CONTEXT, MODALITY = Lack.UNAVAILABLE, Lack.CONTEXT, Lack.MODALITY


@pytest.mark.parametrize(
    ("past", "same_model", "stand_in_for"),
    [
        ((), True, UNAVAILABLE),
        ((Happened.REFUSED,) * 5, True, UNAVAILABLE),
        ((Happened.BACK_PRESSURE,) * 2, True, UNAVAILABLE),
        ((Happened.LEAVING,), True, UNAVAILABLE),
        ((Happened.RESET,), True, None),
        ((Happened.SERVER_ERROR,), True, None),
        ((Happened.GARBAGE,), True, None),
        ((Happened.RESET, Happened.REFUSED), True, None),
        ((Happened.RESET, Happened.SERVER_ERROR), False, None),
        ((Happened.CLIENT_ERROR,), False, None),
        ((Happened.REFUSED, Happened.NO_FIRST_BYTE), False, None),
        ((Happened.STALLED,), False, None),
        ((Happened.TOO_LONG,), False, CONTEXT),
        ((Happened.REFUSED, Happened.WRONG_MODALITY), False, MODALITY),
        ((Happened.RESET, Happened.TOO_LONG), False, None),
    ],
)
def test_who_may_be_asked_next(
    past: tuple[Happened, ...], same_model: bool, stand_in_for: Lack | None
) -> None:
    assert may_ask("m", None, tries(*past)) is same_model
    assert [lack for lack in Lack if may_ask("other", {lack}, tries(*past))] == [
        *([stand_in_for] if stand_in_for else [])
    ]


def test_the_last_stand_in_makes_up_for_all_that_the_others_lacked() -> None:
    past = [FailedTry(Happened.WRONG_MODALITY, "w", "m"), FailedTry(Happened.TOO_LONG, "v", "sees")]
    assert may_ask("long", {CONTEXT, MODALITY}, past)
    assert not may_ask("long", {CONTEXT}, past)
