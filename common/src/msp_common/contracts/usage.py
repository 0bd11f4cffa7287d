"""What requests used, as the worker that answered them tells it."""

from msp_common.contracts.base import Contract

MAX_WAIT_S = 60.0
"""How long a reader may have a worker wait for news."""


class RequestUsage(Contract):
    """One request that is over, answered or not. Null is what is not known, or has no meaning for it."""

    request_id: str
    """The `x-request-id` that the request came with, else the worker's own."""
    path: str
    status: int
    """Of the answer; 499 where the client left before there was one."""
    complete: bool
    """Whether the answer reached its end. What was used until a break or the client's leaving counts."""
    stream: bool
    prompt_tokens: int | None = None
    """Read once, however many choices were asked for."""
    completion_tokens: int | None = None
    """Written, of all choices together."""
    cached_tokens: int | None = None
    """Of the prompt's tokens those that did not have to be read again."""
    audio_s: float | None = None
    """Seconds of sound that were transcribed."""
    first_token_s: float | None = None
    """From the request's arrival at the worker to its first token."""
    duration_s: float
    """From the request's arrival at the worker to its end."""


class UsageReport(Contract):
    """Answer of `GET /usage` of a worker: the requests that ended since the reader last asked.

    A reader goes on with `after=next`. It hands `epoch` back, so that a worker that was restarted, whose
    numbers begin anew, tells all that it has.
    """

    epoch: float
    """When the worker started, in seconds since the Unix epoch: its `started_at`."""
    next: int
    """The number of the last request told here; numbers begin with 1 in each life of a worker."""
    requests: list[RequestUsage]
    """In the order in which they ended. Not always all that there are: ask again at once while some come."""
    lost: int = 0
    """How many after the asked number had been forgotten before the reader came."""
