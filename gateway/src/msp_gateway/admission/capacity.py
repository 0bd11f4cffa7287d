"""How many requests of a model may be at its workers at the same time. Pure."""

from collections.abc import Sequence

from msp_common.contracts.workers import Worker

UNTOLD_SLOTS = 32
"""What a replica that speaks of one slot is taken for. External servers tell nothing of their slots, and
workers that make batches of what waits (embeddings, speech) count one batch as one slot: both need several at
once."""


def places(replicas: Sequence[Worker], ahead: int) -> int:
    """The slots of the replicas that can be asked, and `ahead` more for each.

    A worker queues a few itself, so that it need not wait for the next request when one ends.
    """
    slots = [worker.lease.load.slots for worker in replicas if worker.verdict.routable]
    return sum(UNTOLD_SLOTS if told <= 1 else told for told in slots) + ahead * len(slots)


def gpus(replicas: Sequence[Worker]) -> list[int]:
    """How many GPUs each of the replicas has that can be asked."""
    return [len(worker.lease.gpu.gpus or ()) for worker in replicas if worker.verdict.routable]
