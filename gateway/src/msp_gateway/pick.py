"""In which order the replicas of a model are asked. Pure: a function of snapshot and counters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from msp_common.contracts.workers import Verdict, Worker
from msp_gateway.conversations import favourite
from msp_gateway.stalls import stands_still


@dataclass(frozen=True)
class Seen:
    """What a gateway itself knows of the replicas, by worker id.

    `in_flight`: requests sent there that have not ended. `elsewhere`: those that others sent there; where it
    is not known, all that the worker reported. `cooling`: who failed a moment ago. `shares`: what part of a
    whole replica's work a newcomer is to get, in (0, 1]; others get a whole part.
    """

    in_flight: Mapping[str, int] = field(default_factory=dict)
    cooling: Collection[str] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    elsewhere: Mapping[str, int] = field(default_factory=dict)


def pick(replicas: Sequence[Worker], seen: Seen, turn: int, conversation: str | None = None) -> list[Worker]:
    """All the replicas, least loaded first.

    Load is what this gateway has in flight there plus what others have, in relation to the replica's share.
    Between equals the one that begins moves on with `turn`, else the first would get all traffic of a quiet
    cluster. Suspect replicas come after ready ones, then those that say themselves that they stand still, and
    those that failed a moment ago after all: nobody is left out.

    The replica that a conversation had before knows its beginning. It is asked first among the best, unless
    it has more than twice the work of the least loaded one.
    """
    if len(replicas) < 2:
        return list(replicas)
    start = turn % len(replicas)

    def tier(worker: Worker) -> tuple[bool, bool, bool]:
        still = stands_still(worker.lease.load)
        return worker.id in seen.cooling, still, worker.verdict is Verdict.SUSPECT

    def work(worker: Worker) -> float:
        """With the request that is to be placed."""
        load = worker.lease.load
        elsewhere = seen.elsewhere.get(worker.id, load.in_flight + load.queued)
        return (seen.in_flight.get(worker.id, 0) + elsewhere + 1) / seen.shares.get(worker.id, 1.0)

    ordered = sorted([*replicas[start:], *replicas[:start]], key=lambda w: (tier(w), work(w)))
    if conversation is not None and len(ordered) > 1:
        best = ordered[0]
        familiar = favourite(conversation, [w for w in ordered if tier(w) == tier(best)])
        if work(familiar) <= 2 * work(best) + 1:
            ordered.remove(familiar)
            ordered.insert(0, familiar)
    return ordered
