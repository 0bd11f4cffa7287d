"""When a worker that says nothing is held to stand still. Pure.

Silence alone proves nothing: a long prompt is read, a queue is waited in. The worker's own word on its
engine's progress decides, which it sends with every heartbeat; only where there is none, time alone does.
"""

from dataclasses import dataclass
from enum import Enum

from msp_common.contracts.workers import LEASE_S, Verdict, Worker, WorkerLoad
from msp_gateway.failures import Happened

STANDSTILL_S = 30.0
"""An engine that has work and made no token nor prefill chunk for so long stands still."""

GAPS = 100
"""A stream is looked at after so many of its worker's usual gaps between two chunks."""


class Progress(Enum):
    """What is known of an engine's progress."""

    MOVES = "it makes tokens, for whichever request"
    STILL = "it has work and makes no progress, or the worker itself is gone"
    UNKNOWN = "nothing is known"


@dataclass(frozen=True)
class Limits:
    """`look_after_s`: silence after which progress is asked for; `give_up_after_s`: the end of patience."""

    look_after_s: float
    give_up_after_s: float


def stands_still(load: WorkerLoad) -> bool:
    """Whether the worker itself says that its engine makes no progress."""
    return load.last_progress_age_s is not None and load.last_progress_age_s >= STANDSTILL_S


def progress_of(worker: Worker | None, heard_s_ago: float | None) -> Progress:
    """What the newest snapshot, `heard_s_ago` old, tells; `worker` is None when it is no longer in it."""
    if worker is None or heard_s_ago is None or heard_s_ago > LEASE_S:
        return Progress.UNKNOWN
    if worker.verdict in (Verdict.UNHEALTHY, Verdict.FAILED):
        return Progress.STILL
    if worker.lease.load.last_progress_age_s is None:
        return Progress.UNKNOWN
    return Progress.STILL if stands_still(worker.lease.load) else Progress.MOVES


def look_after_s(usual_gap_s: float | None, limits: Limits) -> float:
    """After how much silence its worker's progress is looked at, given the p99 of the worker's gaps."""
    longest_s = min(limits.look_after_s, limits.give_up_after_s)
    if usual_gap_s is None:
        return longest_s
    return min(longest_s, max(STANDSTILL_S, GAPS * usual_gap_s))


def judge(
    silent_s: float, look_after_s: float, limits: Limits, progress: Progress, *, begun: bool
) -> Happened | None:
    """What a silence of so long means; None while it is to be borne. `begun`: after the first byte."""
    if progress is Progress.STILL and silent_s >= look_after_s:
        return Happened.STALLED
    if silent_s >= limits.give_up_after_s:
        return Happened.SILENT if begun else Happened.NO_FIRST_BYTE
    return None
