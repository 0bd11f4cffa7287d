"""Limits per minute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp_gateway.admission.token_bucket import TokenBucket

steps = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 50)).map(lambda step: (round(step[0], 3), round(step[1], 3))),
    max_size=50,
)


def test_a_minutes_worth_may_be_taken_at_once_and_then_as_it_fills() -> None:
    bucket = TokenBucket(60, now=0)
    assert bucket.wait_s(60, now=0) == 0
    bucket.take(60, now=0)
    assert bucket.wait_s(1, now=0) == 1
    assert bucket.wait_s(1, now=1) == 0
    assert bucket.full_in_s(now=1) == 59


def test_what_was_used_beyond_the_limit_is_waited_for() -> None:
    bucket = TokenBucket(60, now=0)
    bucket.take(180, now=0)
    assert bucket.wait_s(1, now=0) == 121


def test_a_request_larger_than_the_limit_needs_a_full_bucket() -> None:
    bucket = TokenBucket(60, now=0)
    assert bucket.wait_s(500, now=0) == 0
    bucket.take(1, now=0)
    assert bucket.wait_s(500, now=0) == 1


def test_what_is_given_back_never_makes_more_than_the_limit() -> None:
    bucket = TokenBucket(60, now=0)
    bucket.take(-100, now=0)
    assert bucket.level(now=0) == 60


@pytest.mark.parametrize(("limit", "left"), [(100, 50), (20, -30)])
def test_a_new_limit_keeps_what_was_used(limit: int, left: int) -> None:
    bucket = TokenBucket(60, now=0)
    bucket.take(50, now=0)
    bucket.resize(limit, now=0)
    assert bucket.level(now=0) == left


@given(st.integers(1, 1000), steps)
def test_no_span_of_time_gives_more_than_the_bucket_and_its_filling(
    per_minute: int, moves: list[tuple[float, float]]
) -> None:
    bucket, now, taken = TokenBucket(per_minute, now=0), 0.0, 0.0
    for amount, passes_s in moves:
        amount = min(amount, per_minute)
        if bucket.wait_s(amount, now) == 0:
            bucket.take(amount, now)
            taken += amount
        now += passes_s
        assert taken <= per_minute + now * per_minute / 60 + 1e-6


@given(st.integers(1, 1000), steps)
def test_after_the_time_to_wait_that_was_told_it_can_be_taken(
    per_minute: int, moves: list[tuple[float, float]]
) -> None:
    bucket, now = TokenBucket(per_minute, now=0), 0.0
    for amount, passes_s in moves:
        now += bucket.wait_s(amount, now) + 1e-6
        assert bucket.wait_s(amount, now) == 0
        bucket.take(amount, now)
        now += passes_s


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(60, now=100)
    bucket.take(60, now=100)
    assert bucket.level(now=50) == 0
    assert bucket.level(now=101) == 1
