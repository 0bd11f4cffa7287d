"""Lets another replica go on with a stream whose worker died in the middle of it."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msp_common import sse
from msp_common.contracts.workers import Worker
from msp_gateway.failures import FailedTry, may_go_on
from msp_gateway.head import ClientRequest
from msp_gateway.resume.continuation import PATHS, Continuation, lacks_its_end_only
from msp_gateway.resume.delivered import CannotResume, read_delivered
from msp_gateway.resume.kept import Kept, KeptBytes

ASKS = (b"x-msp-resumable", b"1")
"""The field that asks a worker for comments with token ids."""

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What came of a stream whose worker died."""

    RESUMED = "resumed"
    """The client has all of it."""
    IMPOSSIBLE = "impossible"
    """Nobody could have gone on with it."""
    FAILED = "failed"
    """There was no other replica, or it did not bring the stream to its end either."""


@dataclass(frozen=True)
class Resuming:
    """How streams are gone on with."""

    replicas_of: Callable[[str], Sequence[Worker]]
    """Those of a model as they are now, the best first."""
    room: KeptBytes

    def wants(self, path: str, request: ClientRequest, worker: Worker) -> bool:
        """Whether an answer may be one to go on with."""
        return request.head.stream and path in PATHS and worker.external is None

    async def resume(
        self,
        request: ClientRequest,
        kept: Kept,
        first: Worker,
        past: Sequence[FailedTry],
        tell: Callable[[bytes], Awaitable[None]],
        go_on: Callable[[Continuation, Worker], Awaitable[bool]],
    ) -> Outcome:
        """Bring the stream that `first` began to its end.

        `go_on` asks one replica and passes on what it says; it adds to `past` what goes wrong, and says
        whether the stream has reached its end. `tell` sends bytes to the client.
        """
        if not may_go_on(past):
            return Outcome.IMPOSSIBLE
        try:
            if not kept.whole:
                raise CannotResume("it is too long, or too many others are long")
            delivered = read_delivered(kept.bytes())
            if lacks_its_end_only(request, delivered):
                await tell(sse.DONE)
                return Outcome.RESUMED
            continuation = Continuation(request, delivered)
        except CannotResume as reason:
            log.warning("the stream cannot be gone on with: %s", reason, extra={"worker": first.id})
            return Outcome.IMPOSSIBLE
        kept.forget()
        for worker in self.replicas_of(first.lease.model.id):
            if not may_go_on(past):
                break
            if _can_take_over(worker, first, past) and await go_on(continuation, worker):
                return Outcome.RESUMED
        return Outcome.FAILED


def _can_take_over(worker: Worker, first: Worker, past: Sequence[FailedTry]) -> bool:
    """Whether it has the same weights and has not failed at this request."""
    return (
        worker.verdict.routable
        and worker.external is None
        and worker.lease.model.commit == first.lease.model.commit
        and worker.id not in {tried.worker_id for tried in past}
    )
