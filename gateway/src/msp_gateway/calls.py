"""A request as it goes to workers, and the workers that may be asked."""

from dataclasses import dataclass
from functools import cached_property

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


@dataclass(frozen=True)
class Candidate:
    """A replica that may be asked; `stands_in_for` as of its model's `Choice`."""

    worker: Worker
    stands_in_for: frozenset[Lack] | None = None

    @cached_property
    def seen(self) -> tuple[str, str, str]:
        """Worker, model and verdict."""
        return self.worker.id, self.worker.lease.model.id, self.worker.verdict.value
