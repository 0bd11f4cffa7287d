"""What the pipeline asks of admission, and what admission needs to know of a request."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from msp_common.contracts.workers import Worker
from msp_gateway.admission.identity import Identity
from msp_gateway.head import Head
from msp_gateway.upstream import RawHeaders

TellWaiting = Callable[[int, float | None], Awaitable[None]]
"""Takes the present position in the queue, from 1 on, and the expected wait in seconds where it is known."""


class Progress(Protocol):
    """How far a request has come; the pipeline's record of it."""

    prompt_tokens: int | None
    """By the worker's report, which may come after the end; written here by who is told."""
    completion_tokens: int | None
    tokens_estimated: bool
    """Whether they were counted from the answer's events; likewise written."""

    @property
    def status(self) -> int | None:
        """Of the answer; None before there is one."""

    @property
    def model(self) -> str | None:
        """The model that answered, or that was asked last."""


@dataclass(slots=True, eq=False)
class Ask:
    """A request that wants a place."""

    identity: Identity
    head: Head
    request_id: str
    model_id: str
    """The model that is to answer; the queue is its."""
    replicas: Sequence[Worker]
    """The model's workers that requests may be sent to now."""
    body_bytes: int
    progress: Progress
    tell_waiting: TellWaiting | None = None
    """Called now and then while the request waits, where the client asked for it."""


class Place(Protocol):
    """A request on its way in: `with` a block that gives its place back at the end, or call `give_back`."""

    @property
    def granted(self) -> bool:
        """Whether the request may be worked on now; `wait` where not."""

    async def wait(self) -> None:
        """Return once the place is granted. Raises TooManyRequests and Unavailable; may be cancelled."""

    @property
    def fields(self) -> RawHeaders:
        """Header fields that tell the client of its waiting and its limits."""

    @property
    def waited_s(self) -> float:
        """For how long the request waited."""

    def give_back(self) -> None:
        """Give up the place, or the waiting for it; once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Authenticator(Protocol):
    """Tells who asks, from a header field alone: before a byte of the body is read."""

    @property
    def mode(self) -> Literal["off", "on"]:
        """Whether a key is required now."""

    def authenticate(self, authorization: str) -> Identity:
        """Whose request it is that has this Authorization field, or an empty one. Raises Unauthenticated.

        From memory: nothing is waited for.
        """


class Admission(Protocol):
    """Lets requests in."""

    def admit(self, ask: Ask) -> Place:
        """A place that is held while the request is worked on, granted at once as a rule.

        Raises TooManyRequests and Unavailable.
        """
