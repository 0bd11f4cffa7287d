"""What of a worker's good answer was passed on to the client so far."""

from collections.abc import Callable
from dataclasses import dataclass

from msp_common.contracts.workers import Worker
from msp_gateway.events import EventStream
from msp_gateway.failures import Happened
from msp_gateway.resume.kept import Kept


@dataclass(slots=True, eq=False)
class Passed:
    """Filled while the answer comes."""

    worker: Worker
    events: EventStream | None
    kept: Kept | None = None
    """Where the stream is one that another replica may go on with."""
    broken: Happened | None = None
    """Why it ended too early."""
    last: bytes = b""
    """What of it is to be sent yet, with the answer's end."""

    @property
    def whole(self) -> bool:
        """Whether the client has all that it waits for."""
        return self.broken is None or (self.events is not None and self.events.done)

    @property
    def of_next(self) -> Callable[[bytes], bytes]:
        """`next`, or what alone it would call."""
        return self.events.feed if self.events is not None and self.kept is None else self.next

    def next(self, chunk: bytes) -> bytes:
        """What of the worker's next bytes is to be sent."""
        passed = self.events.feed(chunk) if self.events is not None else chunk
        if self.kept is not None:
            self.kept.add(passed)
        return passed
