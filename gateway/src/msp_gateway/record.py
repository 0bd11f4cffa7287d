"""What is known of one relayed request. No content is a part of it."""

import re
from dataclasses import dataclass, field
from typing import Protocol

from msp_gateway.failures import FailedTry, Happened

_CODE = re.compile(r"[a-z_]{1,40}")

_ENDS_OF_STREAMS = {Happened.BROKEN_OFF, Happened.SILENT, Happened.STALLED, Happened.CLIENT_LEFT}

CLIENT_LEFT_STATUS = 499
"""How a request is counted whose client left before the answer began; no client ever sees it."""


@dataclass(slots=True, eq=False)
class Record:
    """What is known of one request; filled in on its way. Moments are the clock's seconds."""

    request_id: str
    path: str
    started: float
    arrived_at: float = 0.0
    """Seconds since the epoch."""
    identity: str | None = None
    """Name of the API key."""
    requested_model: str | None = None
    stream: bool = False
    read: float | None = None
    """When the request was there whole."""
    waited_s: float | None = None
    """In the queue; null for one that was refused before it."""
    candidates: tuple[tuple[str, str, str], ...] = ()
    """Worker, model and verdict of all that could have answered, the preferred one first."""
    asked: list[tuple[str, str, float]] = field(default_factory=list)
    """Worker, model and moment of every try."""
    failed: list[FailedTry] = field(default_factory=list)
    """The tries that brought no good answer, in the order of `asked`."""
    model: str | None = None
    """The model that answered, or that was asked last."""
    worker: str | None = None
    status: int | None = None
    error: str | None = None
    """The error's code (or type), where the answer was one."""
    first_byte: float | None = None
    ended: float | None = None
    complete: bool = False
    """Whether the answer reached its end: not so when the worker broke off or the client left."""
    resumed: str | None = None
    """What came of going on with a stream whose worker died; null where none did, or none should."""
    prompt_tokens: int | None = None
    """By the reports of all workers that were tried, which may come after the end."""
    completion_tokens: int | None = None
    tokens_estimated: bool = False
    """Whether the gateway counted an external server's events, since its answer held no figures."""

    @property
    def added_s(self) -> float | None:
        """What the gateway itself took from the request's last byte to asking a worker, without the queue."""
        if self.read is None or not self.asked:
            return None
        return max(0.0, self.asked[0][2] - self.read - (self.waited_s or 0.0))

    @property
    def cause(self) -> str | None:
        """Why the request was no success; null for one that was."""
        if self.status is None:
            return Happened.CLIENT_LEFT.value
        if self.status >= 400:
            # A label must not hold whatever an external server may write as its code.
            return self.error if self.error and _CODE.fullmatch(self.error) else "error"
        if not self.complete:
            # Who could not go on with a broken stream is not why it broke.
            ends = [tried.what for tried in self.failed if tried.what in _ENDS_OF_STREAMS]
            return (ends or [tried.what for tried in self.failed] or [Happened.CLIENT_LEFT])[-1].value
        return None


class Moments(Protocol):
    """Notes when something happens to a request."""

    def asks(self, record: Record, worker: str, model: str) -> None:
        """A worker is asked."""

    def first_byte(self, record: Record) -> None:
        """The answer's first byte is there."""
