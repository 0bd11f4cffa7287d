"""Tries that brought no good answer, and what the client is told of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from msp_common.contracts.workers import Worker
from msp_common.errors import ApiError, Unavailable, UpstreamFailed, UpstreamTimeout
from msp_gateway.error_answers import ErrorAnswer, read_error
from msp_gateway.failures import FailedTry, Happened
from msp_gateway.headers import value_of
from msp_gateway.upstream import UpstreamResponse

MAX_ERROR_BYTES = 256 * 1024
"""An error's body is read up to here before it is passed on."""


@dataclass(slots=True, eq=False)
class Miss:
    """A try without a good answer; `error` is what the worker answered instead, if it did."""

    tried: FailedTry
    error: ErrorAnswer | None = None


def miss_of(worker: Worker, what: Happened, detail: str, error: ErrorAnswer | None = None) -> Miss:
    """A try at this worker, as it ended."""
    return Miss(FailedTry(what, worker.id, worker.lease.model.id, detail), error)


async def error_answer(what: Happened, response: UpstreamResponse) -> ErrorAnswer:
    """What a worker's answer that is no good one makes of it for the client. Raises UpstreamError."""
    if what is Happened.SERVER_ERROR and response.status < 500:
        refused = UpstreamFailed("The model's server refuses the gateway; its log says why.")
        return ErrorAnswer(502, msgspec.json.encode(refused.envelope()), should_retry=False)
    body = b""
    while chunk := await response.read():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    error = read_error(response.status, body)
    return replace(
        error,
        retry_after=value_of(response.headers, b"retry-after"),
        # Another replica has been tried already, if there is one: repeating it would only double the work.
        should_retry=False if what is Happened.SERVER_ERROR else None,
    )


def broken_off(what: Happened) -> ApiError:
    """The error of an answer that ended too early."""
    if what is Happened.BROKEN_OFF:
        return UpstreamFailed("The model's worker broke off its answer.")
    return UpstreamTimeout("The model's worker stopped in the middle of its answer.")


def last_word(misses: Sequence[Miss]) -> ErrorAnswer:
    """What the client is told when no try brought a good answer: the gravest of what happened.

    Back-pressure invites clients to come again, so it is told only where no worker may have been harmed by
    the request, nor be at work on it still; and a model's limits only where no other could have done better.
    Raises ApiError where the worker gave no error to pass on.
    """
    happened = {miss.tried.what for miss in misses}
    if happened & {Happened.NO_FIRST_BYTE, Happened.STALLED}:
        raise UpstreamTimeout("The model's worker did not begin to answer in time.", should_retry=False)
    for kinds in (
        {Happened.CLIENT_ERROR, Happened.SERVER_ERROR},
        {Happened.BACK_PRESSURE},
        {Happened.TOO_LONG, Happened.WRONG_MODALITY},
    ):
        given = [miss.error for miss in misses if miss.error is not None and miss.tried.what in kinds]
        if given:
            return given[-1]
        if happened & {Happened.RESET, Happened.GARBAGE}:
            raise UpstreamFailed("The workers of the model failed on this request.", should_retry=False)
    raise Unavailable("No worker of the model can be reached.", retry_after_s=1)
