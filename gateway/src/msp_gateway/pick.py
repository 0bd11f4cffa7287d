"""In which order the replicas of a model are asked. Pure: a function of snapshot and counters."""

from collections.abc import Collection, Mapping, Sequence

from msp_common.contracts.workers import Verdict, Worker


def pick(
    replicas: Sequence[Worker], in_flight: Mapping[str, int], cooling: Collection[str], turn: int
) -> list[Worker]:
    """The replicas, least loaded first.

    Load is what this gateway has in flight there plus what the worker reported. Between equals the one that
    begins moves on with `turn`, else the first would get all traffic of a quiet cluster. Suspect replicas
    come after ready ones, and those that failed a moment ago (`cooling`) after all.
    """
    start = turn % len(replicas) if replicas else 0

    def rank(worker: Worker) -> tuple[bool, bool, int]:
        load = worker.lease.load
        busy = in_flight.get(worker.id, 0) + load.in_flight + load.queued
        return worker.id in cooling, worker.verdict is Verdict.SUSPECT, busy

    return sorted([*replicas[start:], *replicas[:start]], key=rank)
