"""What places there are, how fast they become free, how GPU time is shared, and what keys may do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp_common.contracts.workers import Verdict, WorkerLoad
from msp_common.errors import Forbidden
from msp_gateway.admission.capacity import UNTOLD_SLOTS, places
from msp_gateway.admission.gpu_time import GpuTime
from msp_gateway.admission.identity import ANONYMOUS, allowed
from msp_gateway.admission.rate_limits import FIRST_ESTIMATE_TOKENS, RateLimits, reset_text
from msp_gateway.admission.refusals import Refused
from msp_gateway.admission.service_rate import TRUSTED_ENDS, ServiceRate
from msp_gateway.failures import Lack
from msp_gateway.resolve import Choice
from support.gateway_admission import key
from support.gateway_cluster import GatewayClock, worker


def test_places_are_the_slots_of_the_replicas_that_can_be_asked_and_some_ahead() -> None:
    replicas = [
        worker("a", load=WorkerLoad(slots=8)),
        worker("b", load=WorkerLoad(slots=4), verdict=Verdict.SUSPECT),
        worker("c", load=WorkerLoad(slots=16), verdict=Verdict.UNHEALTHY),
    ]
    assert places(replicas, ahead=2) == 8 + 4 + 2 * 2


def test_a_replica_that_says_nothing_of_slots_is_given_several_requests() -> None:
    assert places([worker("external")], ahead=0) == UNTOLD_SLOTS


def test_a_full_model_ends_requests_as_fast_as_its_places_allow() -> None:
    rate = ServiceRate()
    assert rate.wait_s("m", 1, 4) is None
    for _ in range(TRUSTED_ENDS):
        rate.ended("m", 8)
    assert rate.is_trusted("m")
    assert rate.wait_s("m", position=3, places=4) == 6
    assert rate.wait_s("m", position=3, places=0) is None


def test_the_rate_follows_what_is_measured_now() -> None:
    rate = ServiceRate()
    for _ in range(100):
        rate.ended("m", 1)
    for _ in range(60):
        rate.ended("m", 9)
    assert rate.wait_s("m", 1, 1) == pytest.approx(9, rel=0.05)


def test_one_request_has_the_gpus_of_one_replica() -> None:
    time = GpuTime()
    time.set_gpus("m", [2, 2], now=0)
    began = time.set_in_flight("m", 1, now=0)
    assert time.set_in_flight("m", 0, now=5) - began == 10


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 20)), max_size=30), st.integers(0, 4))
def test_the_shares_of_all_requests_are_the_time_for_which_gpus_had_work(
    moves: list[tuple[int, int]], replicas: int
) -> None:
    time, now, busy_s = GpuTime(), 0.0, 0.0
    time.set_gpus("m", [1] * replicas, now)
    began: list[float] = []
    shares = 0.0
    for wanted, passes_s in moves:
        while len(began) < wanted:
            began.append(time.set_in_flight("m", len(began) + 1, now))
        while len(began) > wanted:
            shares += time.set_in_flight("m", len(began) - 1, now) - began.pop(0)
        busy_s += passes_s * min(wanted, replicas)
        now += passes_s
    for number in range(len(began) - 1, -1, -1):
        shares += time.set_in_flight("m", number, now) - began.pop(0)
    assert shares == pytest.approx(busy_s)


def test_before_anything_is_known_a_request_is_taken_for_its_length() -> None:
    limits = RateLimits(GatewayClock())
    assert limits.take(key(tokens_per_minute=9000), body_bytes=400) == 101
    assert limits.take(key("picture", tokens_per_minute=9000), 10**7) == FIRST_ESTIMATE_TOKENS


def test_then_for_what_the_keys_requests_used_so_far() -> None:
    limits, own = RateLimits(GatewayClock()), key(tokens_per_minute=9000)
    limits.take(own, 400)
    limits.learn(own.key_id, 250)
    assert limits.take(own, 400) == 250


def test_tokens_that_were_used_up_are_waited_for() -> None:
    clock = GatewayClock()
    limits, own = RateLimits(clock), key(tokens_per_minute=600)
    estimate = limits.take(own, 400)
    limits.charge(own.key_id, 1200 - estimate)
    limits.learn(own.key_id, 1200)
    with pytest.raises(Refused, match="600 tokens per minute") as refused:
        limits.take(own, 400)
    assert refused.value.headers()["Retry-After"] == "120"
    clock.now += 120
    assert limits.take(own, 400) == 1200


def test_limits_that_are_changed_hold_from_the_next_request_on() -> None:
    limits = RateLimits(GatewayClock())
    limits.take(key(requests_per_minute=1), 0)
    limits.take(key(requests_per_minute=2), 0)
    with pytest.raises(Refused):
        limits.take(key(requests_per_minute=2), 0)
    limits.take(key(), 0)


def test_keys_without_limits_are_not_kept() -> None:
    limits = RateLimits(GatewayClock())
    assert limits.take(ANONYMOUS, 400) == 0
    assert limits.fields(ANONYMOUS) == ()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.25, "250ms"), (1.5, "1.5s"), (59.96, "1m0s"), (360, "6m0s")]
)
def test_spans_of_time_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert reset_text(seconds) == text


NAMED = (Choice("a"), Choice("b", frozenset({Lack.CONTEXT})), Choice("c", frozenset({Lack.UNAVAILABLE})))


def test_a_key_without_a_list_may_use_all_models() -> None:
    assert allowed(ANONYMOUS, NAMED, named=True) == NAMED


def test_stand_ins_that_a_key_may_not_use_are_left_out() -> None:
    assert allowed(key(allowed_models=["a", "c"]), NAMED, named=True) == [NAMED[0], NAMED[2]]


def test_nothing_stands_in_for_a_named_model_that_the_key_may_not_use() -> None:
    with pytest.raises(Forbidden) as refused:
        allowed(key(allowed_models=["c"]), NAMED, named=True)
    assert (refused.value.code, refused.value.param) == ("model_not_allowed", "model")


def test_a_default_that_the_key_may_not_use_is_as_good_as_not_there() -> None:
    assert allowed(key(allowed_models=["b", "c"]), NAMED, named=False) == [NAMED[2], NAMED[1]]
    with pytest.raises(Forbidden):
        allowed(key(allowed_models=["b"]), NAMED, named=False)
