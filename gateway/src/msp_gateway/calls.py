"""A request as it goes to workers, and the workers that may be asked."""

from dataclasses import dataclass

from msp_common.contracts.workers import Worker
from msp_gateway.failures import Lack
from msp_gateway.head import ClientRequest
from msp_gateway.upstream import RawHeaders


@dataclass(slots=True, eq=False)
class Call:
    """One request as it goes to workers: the path, the fields that go on, and the client's bytes."""

    path: str
    headers: RawHeaders
    request: ClientRequest


class Candidate:
    """A replica that may be asked; `stands_in_for` as of its model's `Choice`."""

    __slots__ = ("seen", "stands_in_for", "worker")

    def __init__(self, worker: Worker, stands_in_for: frozenset[Lack] | None = None) -> None:
        self.worker = worker
        self.stands_in_for = stands_in_for
        self.seen = worker.id, worker.lease.model.id, worker.verdict.value
        """Worker, model and verdict."""
