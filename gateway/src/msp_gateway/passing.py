"""What of a worker's good answer was passed on to the client so far."""

from collections.abc import Callable
from dataclasses import dataclass

from msp_common.contracts.workers import Worker
from msp_gateway.events import EventStream
from msp_gateway.failures import Happened
from msp_gateway.resume.kept import Kept
from msp_gateway.usage.told import Listening, Told


@dataclass(slots=True, eq=False)
class Passed:
    """Filled while the answer comes."""

    worker: Worker
    events: EventStream | None
    listening: Listening | None = None
    """Where nobody but the answer itself tells of its tokens."""
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
        only_events = self.kept is None and self.listening is None
        return self.events.feed if self.events is not None and only_events else self.next

    def next(self, chunk: bytes) -> bytes:
        """What of the worker's next bytes is to be sent."""
        passed = self.events.feed(chunk) if self.events is not None else chunk
        if self.kept is not None:
            self.kept.add(passed)
        if self.listening is not None:
            self.listening.heard(passed)
        return passed

    def told(self) -> Told | None:
        """What the answer told of its tokens; once."""
        listening, self.listening = self.listening, None
        if listening is None:
            return None
        if self.events is not None:
            listening.heard(self.events.rest())
        return listening.told(done=self.events is not None and self.events.done)
