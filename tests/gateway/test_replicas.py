"""What the gateway itself remembers of replicas, and that it forgets it again."""

import pytest

from msp_common.contracts.workers import Verdict, Worker, WorkerLoad
from msp_gateway.replicas import SMALLEST_SHARE, Replicas
from support.gateway_cluster import GatewayClock, worker

A, B = worker("a"), worker("b")
B_LOADING = worker("b", verdict=Verdict.LOADING)


@pytest.fixture
def clock() -> GatewayClock:
    return GatewayClock()


@pytest.fixture
def replicas(clock: GatewayClock) -> Replicas:
    return Replicas(cooldown_s=5, clock=clock, slow_start_s=20)


def test_requests_in_flight_are_counted_and_forgotten(replicas: Replicas) -> None:
    replicas.started("a")
    replicas.started("a")
    replicas.ended("a")
    assert replicas.seen().in_flight == {"a": 1}
    replicas.ended("a")
    assert replicas.seen().in_flight == {}


def test_a_cool_down_ends_by_itself(replicas: Replicas, clock: GatewayClock) -> None:
    replicas.failed("a")
    clock.now += 4.9
    assert replicas.seen().cooling == {"a"}
    clock.now += 0.1
    assert replicas.seen().cooling == set()


def test_a_cool_down_ends_with_a_good_answer(replicas: Replicas) -> None:
    replicas.failed("a")
    assert replicas.answered("a")
    assert replicas.seen().cooling == set()
    assert not replicas.answered("a")


def test_replicas_that_were_there_first_are_not_held_back(replicas: Replicas) -> None:
    replicas.observe([A, B])
    assert replicas.seen().shares == {}


def test_a_replica_that_became_ready_grows_into_its_share(replicas: Replicas, clock: GatewayClock) -> None:
    replicas.observe([A, B_LOADING])
    replicas.observe([A, B])
    assert replicas.seen().shares == {"b": SMALLEST_SHARE}
    clock.now += 10
    replicas.observe([A, B])
    assert replicas.seen().shares == {"b": 0.5}
    clock.now += 10
    assert replicas.seen().shares == {}


def test_a_new_process_under_an_old_name_is_new(replicas: Replicas) -> None:
    replicas.observe([A, B])
    replicas.observe([A, worker("b", started_at=2000)])
    assert replicas.seen().shares == {"b": SMALLEST_SHARE}


def test_a_suspect_that_is_ready_again_was_never_away(replicas: Replicas) -> None:
    replicas.observe([A, B])
    replicas.observe([A, worker("b", verdict=Verdict.SUSPECT)])
    replicas.observe([A, B])
    assert replicas.seen().shares == {}


def test_one_that_was_unhealthy_begins_anew(replicas: Replicas) -> None:
    replicas.observe([A, B])
    replicas.observe([A, worker("b", verdict=Verdict.UNHEALTHY)])
    replicas.observe([A, B])
    assert replicas.seen().shares == {"b": SMALLEST_SHARE}


def test_without_slow_start_nobody_is_held_back(clock: GatewayClock) -> None:
    replicas = Replicas(cooldown_s=5, clock=clock, slow_start_s=0)
    replicas.observe([A])
    replicas.observe([A, B])
    assert replicas.seen().shares == {}


def test_failures_of_workers_that_are_gone_are_forgotten(replicas: Replicas) -> None:
    replicas.observe([A, B])
    replicas.failed("b")
    replicas.observe([A])
    assert not replicas.answered("b")


def beats(at: float, in_flight: int, queued: int = 0) -> Worker:
    told = worker("a", load=WorkerLoad(in_flight=in_flight, queued=queued))
    return told.model_copy(update={"heartbeat_at": at})


def test_a_worker_that_reports_our_own_requests_is_no_busier_for_it(replicas: Replicas) -> None:
    replicas.observe([beats(1, 0)])
    for _ in range(5):
        replicas.started("a")
    for _ in range(4):
        replicas.ended("a")
    replicas.observe([beats(3, 3, queued=1)])  # it counted when four of the five were still there
    assert (replicas.seen().in_flight["a"], replicas.seen().elsewhere["a"]) == (1, 0)


def test_what_others_have_there_is_counted(replicas: Replicas) -> None:
    replicas.observe([beats(1, 2, queued=5)])
    assert replicas.seen().elsewhere == {"a": 7}
    replicas.started("a")
    replicas.observe([beats(3, 8)])
    assert replicas.seen().elsewhere == {"a": 7}
    replicas.ended("a")
    replicas.observe([beats(5, 8)])
    assert replicas.seen().elsewhere == {"a": 7}
    replicas.observe([beats(7, 0)])
    assert replicas.seen().elsewhere == {"a": 0}


def test_a_snapshot_without_news_of_a_worker_changes_nothing(replicas: Replicas) -> None:
    replicas.observe([beats(1, 0)])
    replicas.started("a")
    replicas.observe([beats(3, 1)])
    replicas.ended("a")
    replicas.observe([beats(3, 1), B])
    assert replicas.seen().elsewhere["a"] == 0
