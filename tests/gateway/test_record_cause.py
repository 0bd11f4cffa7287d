"""Why a request was no success, as the metrics count it."""

import pytest

from msp_gateway.failures import FailedTry, Happened
from msp_gateway.record import Record

OFF, REFUSED, RESET, LEFT = Happened.BROKEN_OFF, Happened.REFUSED, Happened.RESET, Happened.CLIENT_LEFT


@pytest.mark.parametrize(
    ("failed", "cause"),
    [
        ([], "client_left"),
        ([OFF], "broken_off"),
        ([REFUSED, OFF], "broken_off"),
        ([OFF, REFUSED], "broken_off"),
        ([OFF, LEFT], "client_left"),
        ([RESET], "reset"),
    ],
)
def test_a_stream_that_ends_early_is_counted_by_what_broke_it_not_by_who_could_not_go_on(
    failed: list[Happened], cause: str
) -> None:
    record = Record("req", "/v1/chat/completions", 0.0, status=200, first_byte=1.0)
    record.failed = [FailedTry(what, "worker", "org/chat") for what in failed]
    assert record.cause == cause
    record.complete = True
    assert record.cause is None
