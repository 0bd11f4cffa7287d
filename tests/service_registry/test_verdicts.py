"""The worker's state machine, as a table: what happened when, and what the verdict is then."""

from dataclasses import dataclass

import pytest

from msp_common.contracts.workers import Verdict, WorkerState
from msp_service_registry import verdicts
from msp_service_registry.verdicts import Record

READY, LOADING, DRAINING, FAILED = (
    WorkerState.READY,
    WorkerState.LOADING,
    WorkerState.DRAINING,
    WorkerState.FAILED,
)


@dataclass(frozen=True)
class Beat:
    at: float
    state: WorkerState = READY
    no_progress_s: float | None = None


@dataclass(frozen=True)
class Fault:
    at: float


@dataclass(frozen=True)
class Good:
    """An ok report at `at`, or a good probe that was sent then."""

    at: float


Event = Beat | Fault | Good


def after(*events: Event) -> Record:
    record: Record | None = None
    for event in events:
        if isinstance(event, Beat):
            record = verdicts.with_heartbeat(record, event.state, event.at, event.no_progress_s)
        elif record is None:
            raise ValueError("a story begins with a heartbeat")
        elif isinstance(event, Fault):
            record = verdicts.with_fault(record, "refused", event.at)
        else:
            record = verdicts.with_good_sign(record, event.at)
    assert record is not None
    return record


TABLE: dict[str, tuple[list[Event], float, Verdict]] = {
    "ready is believed at once": ([Beat(0)], 0, Verdict.READY),
    "one late heartbeat is nothing": ([Beat(0)], 4.2, Verdict.READY),
    "two missed heartbeats are": ([Beat(0)], 4.3, Verdict.SUSPECT),
    "a killed worker is suspect within 5 s": ([Beat(0)], 5, Verdict.SUSPECT),
    "and still suspect while its lease holds": ([Beat(0)], 9.9, Verdict.SUSPECT),
    "and unhealthy within 12 s": ([Beat(0)], 10.1, Verdict.UNHEALTHY),
    "and for good": ([Beat(0)], 80_000, Verdict.UNHEALTHY),
    "its own word stands while loading": ([Beat(0, LOADING)], 9.9, Verdict.LOADING),
    "a loading one is never routed to for being late": ([Beat(0, LOADING)], 5, Verdict.LOADING),
    "but its lease can run out": ([Beat(0, LOADING)], 10.1, Verdict.UNHEALTHY),
    "draining stands": ([Beat(0), Beat(1, DRAINING), Fault(2)], 2, Verdict.DRAINING),
    "failed stands": ([Beat(0), Beat(1, FAILED)], 6, Verdict.FAILED),
    "failed and gone": ([Beat(0, FAILED)], 11, Verdict.UNHEALTHY),
    "one fault is a doubt": ([Beat(0), Fault(1)], 1, Verdict.SUSPECT),
    "a heartbeat alone does not close it": ([Beat(0), Fault(1), Beat(2)], 2, Verdict.SUSPECT),
    "a good sign does": ([Beat(0), Fault(1), Beat(2), Good(2.5)], 2.5, Verdict.READY),
    "in either order": ([Beat(0), Fault(1), Good(1.5), Beat(2)], 2, Verdict.READY),
    "a probe from before the fault does not": ([Beat(0), Fault(1), Good(0.9)], 1.2, Verdict.SUSPECT),
    "a slow engine is ready": ([Beat(0, no_progress_s=59)], 1, Verdict.READY),
    "one that stands still is not": ([Beat(0, no_progress_s=60)], 1, Verdict.UNHEALTHY),
    "nor when it comes to a stop later": ([Beat(0), Beat(2, no_progress_s=61)], 2, Verdict.UNHEALTHY),
    "its health page proves nothing": ([Beat(0, no_progress_s=60), Good(1)], 2, Verdict.UNHEALTHY),
    "its progress does": ([Beat(0, no_progress_s=60), Beat(2, no_progress_s=0.1)], 2, Verdict.READY),
    "and so does the end of its work": ([Beat(0, no_progress_s=60), Beat(2)], 2, Verdict.READY),
    "its own word goes before": ([Beat(0, DRAINING, no_progress_s=99)], 1, Verdict.DRAINING),
    "two faults": ([Beat(0), Fault(1), Fault(1.1)], 2, Verdict.SUSPECT),
    "three in a row": ([Beat(0), Fault(1), Fault(1.1), Fault(1.2)], 2, Verdict.UNHEALTHY),
    "three in a row, still beating": (
        [Beat(0), Fault(1), Fault(1.1), Fault(1.2), Beat(2), Beat(4)],
        5,
        Verdict.UNHEALTHY,
    ),
    "three, but a good sign between": (
        [Beat(0), Fault(1), Fault(1.1), Good(1.15), Fault(1.2)],
        2,
        Verdict.SUSPECT,
    ),
    "back from unhealthy by one good sign": (
        [Beat(0), Fault(1), Fault(1), Fault(1), Beat(2), Good(2.1)],
        2.1,
        Verdict.READY,
    ),
    "back from a missed heartbeat it is doubted": ([Beat(0), Beat(6)], 6, Verdict.SUSPECT),
    "until a good sign": ([Beat(0), Beat(6), Good(6.1)], 6.1, Verdict.READY),
    "a good sign while it was silent will do": ([Beat(0), Good(5), Beat(6)], 6, Verdict.READY),
    "but silence stays suspect": ([Beat(0), Good(5)], 5.1, Verdict.SUSPECT),
    "a good sign from before the silence will not": ([Beat(0), Good(3), Beat(6)], 6, Verdict.SUSPECT),
    "back after its lease ran out": ([Beat(0), Beat(60)], 60, Verdict.SUSPECT),
    "a good sign without a lease is not enough": ([Beat(0), Good(20)], 20, Verdict.UNHEALTHY),
    "a good sign, then a heartbeat": ([Beat(0), Good(20), Beat(21)], 21, Verdict.READY),
    "back after silence while loading": ([Beat(0, LOADING), Beat(30, LOADING)], 30, Verdict.LOADING),
    "and then ready": ([Beat(0, LOADING), Beat(30, LOADING), Beat(31)], 31, Verdict.READY),
    "ready after draining was only announced": ([Beat(0), Beat(1, DRAINING), Beat(2)], 2, Verdict.READY),
    "faults while loading count once it says ready": (
        [Beat(0, LOADING), Fault(1), Beat(2)],
        2,
        Verdict.SUSPECT,
    ),
}


@pytest.mark.parametrize(("events", "at", "verdict"), TABLE.values(), ids=TABLE.keys())
def test_verdict(events: list[Event], at: float, verdict: Verdict) -> None:
    assert verdicts.judge(after(*events), at).verdict is verdict


@pytest.mark.parametrize(("events", "at", "verdict"), TABLE.values(), ids=TABLE.keys())
def test_the_verdict_holds_until_the_announced_moment_and_no_longer(
    events: list[Event], at: float, verdict: Verdict
) -> None:
    record = after(*events)
    moment = verdicts.next_change_at(record, at)
    if moment is None:
        assert verdicts.judge(record, at + 1_000_000).verdict is verdict
        return
    assert verdicts.judge(record, moment).verdict is verdict
    later = verdicts.judge(record, moment + 0.01)
    stays = record.faults >= verdicts.FAULTS_IN_A_ROW or record.no_progress_s >= verdicts.STANDSTILL_S
    assert later.verdict is not verdict or stays or record.doubt


def test_a_healthy_worker_needs_no_proof_and_a_doubted_one_does() -> None:
    assert not verdicts.needs_proof(after(Beat(0)), 1)
    assert verdicts.needs_proof(after(Beat(0), Fault(1)), 1)
    assert verdicts.needs_proof(after(Beat(0)), 5)
    assert not verdicts.needs_proof(after(Beat(0), Good(5)), 6)
    assert not verdicts.needs_proof(after(Beat(0, LOADING)), 6)


def test_the_reason_does_not_change_while_nothing_happens() -> None:
    record = after(Beat(0))
    assert verdicts.judge(record, 20) == verdicts.judge(record, 30)
    assert verdicts.judge(record, 5) == verdicts.judge(record, 6)


def test_the_reason_names_the_fault() -> None:
    record = verdicts.with_fault(after(Beat(0)), "stalled: no token for 30 s", 1)
    assert verdicts.judge(record, 1).reason == "stalled: no token for 30 s"
