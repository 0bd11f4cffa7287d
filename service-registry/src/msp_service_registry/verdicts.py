"""The service registry's verdict on a worker: a pure function of what is known of it and of the clock.

A worker's own word stands for `starting`, `fetching`, `loading`, `draining` and `failed`, as long as its
lease holds. `ready` has to be earned:

| verdict     | when, first match wins                                                               |
|-------------|--------------------------------------------------------------------------------------|
| unhealthy   | no heartbeat for more than `LEASE_S`: the lease ran out                              |
| (own word)  | the lease holds and says anything but `ready`                                        |
| unhealthy   | by its own word its engine has work and made no progress for `STANDSTILL_S`          |
| unhealthy   | `FAULTS_IN_A_ROW` faults or more were reported since the last good sign              |
| suspect     | no heartbeat for more than `SUSPECT_AFTER_S`                                         |
| suspect     | an open doubt: a fault was reported, or heartbeats had stopped, and no good sign yet |
| ready       | otherwise                                                                            |

A **good sign** is an `ok` report of the gateway, or a probe of `/health` answered with 200 that was sent
after the doubt arose. It closes the doubt and sets the count of faults to nought; a heartbeat alone does
neither. An engine that stands still is not proved otherwise by `/health`: only its progress, or the end of
its work, brings the worker back. Probes that fail are no faults: they only leave the doubt open, since the
service registry's way to a worker may be cut where the gateway's is not. A new process under the same id
starts without history.
"""

from dataclasses import dataclass, replace

from msp_common.contracts.workers import HEARTBEAT_S, LEASE_S, Verdict, WorkerState

SUSPECT_AFTER_S = 2 * HEARTBEAT_S + 0.25
"""Two heartbeats missed, and a little for the way; a killed worker is suspect within 5 s."""

FAULTS_IN_A_ROW = 3
"""So many reported faults without a good sign between them make a worker unhealthy."""

STANDSTILL_S = 60.0
"""An engine that made no token nor prefill chunk for so long, while it had work, does none."""


@dataclass(frozen=True)
class Record:
    """What is remembered of one process of a worker. Moments are those of the monotonic clock."""

    state: WorkerState
    heartbeat_at: float
    faults: int = 0
    doubt: str | None = None
    doubted_at: float = 0.0
    proved_at: float = float("-inf")
    """The newest moment for which a good sign vouches."""
    no_progress_s: float = 0.0
    """How long its engine has stood still, by the last heartbeat."""


@dataclass(frozen=True)
class Judgement:
    """A verdict and why; the reason changes only when the matter does, not with every second."""

    verdict: Verdict
    reason: str | None = None


def with_heartbeat(
    record: Record | None, state: WorkerState, now: float, no_progress_s: float | None = None
) -> Record:
    """The record after a heartbeat; `record` is None for a process that was not known.

    `no_progress_s`: since when the engine has made none, though it had work; None where it had none.
    """
    if record is None:
        return Record(state=state, heartbeat_at=now, no_progress_s=no_progress_s or 0.0)
    renewed = replace(record, state=state, heartbeat_at=now, no_progress_s=no_progress_s or 0.0)
    was_ready = record.state is WorkerState.READY
    if was_ready and record.doubt is None and _silence_unexplained(record, now):
        return replace(renewed, doubt="heartbeats had stopped", doubted_at=_missed_at(record))
    return renewed


def with_fault(record: Record, what: str, now: float) -> Record:
    """The record after the gateway reported a fault."""
    return replace(record, faults=record.faults + 1, doubt=what, doubted_at=now)


def with_good_sign(record: Record, vouches_for: float) -> Record:
    """The record after an `ok` report, or after a good probe that was sent at `vouches_for`."""
    if vouches_for < record.doubted_at:
        return record
    return replace(record, faults=0, doubt=None, proved_at=max(record.proved_at, vouches_for))


def judge(record: Record, now: float) -> Judgement:
    """The verdict at `now`."""
    if now > _lease_ends_at(record):
        return Judgement(
            Verdict.UNHEALTHY, f"no heartbeat for more than {LEASE_S:g} s; it was {record.state}"
        )
    if record.state is not WorkerState.READY:
        return Judgement(Verdict(record.state.value))
    if record.no_progress_s >= STANDSTILL_S:
        return Judgement(
            Verdict.UNHEALTHY, f"its engine has work and has made no progress for {STANDSTILL_S:g} s"
        )
    if record.faults >= FAULTS_IN_A_ROW:
        return Judgement(Verdict.UNHEALTHY, f"{record.faults} faults in a row, the last: {record.doubt}")
    if now > _missed_at(record):
        return Judgement(Verdict.SUSPECT, f"no heartbeat for more than {SUSPECT_AFTER_S:g} s")
    if record.doubt is not None:
        return Judgement(Verdict.SUSPECT, record.doubt)
    return Judgement(Verdict.READY)


def next_change_at(record: Record, now: float) -> float | None:
    """The last moment at which the verdict still is what it is now; None if time alone will not change it."""
    moments = [_lease_ends_at(record)]
    if record.state is WorkerState.READY:
        moments.append(_missed_at(record))
    return min((moment for moment in moments if moment >= now), default=None)


def needs_proof(record: Record, now: float) -> bool:
    """Whether a good probe would help this worker back to `ready`."""
    if record.state is not WorkerState.READY:
        return False
    return record.doubt is not None or _silence_unexplained(record, now)


def lease_ended(record: Record, now: float) -> bool:
    """Whether the lease ran out."""
    return now > _lease_ends_at(record)


def _lease_ends_at(record: Record) -> float:
    return record.heartbeat_at + LEASE_S


def _missed_at(record: Record) -> float:
    return record.heartbeat_at + SUSPECT_AFTER_S


def _silence_unexplained(record: Record, now: float) -> bool:
    """Whether heartbeats are missing and no good sign has come since."""
    return now > _missed_at(record) and record.proved_at < _missed_at(record)
