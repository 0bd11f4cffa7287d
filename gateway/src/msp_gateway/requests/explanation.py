"""One request explained: whom it could have gone to, whom it went to and why it ended as it did. Pure."""

from itertools import zip_longest

from msp_common.contracts.base import Contract
from msp_gateway.failures import JUDGEMENTS, FailedTry
from msp_gateway.record import CLIENT_LEFT_STATUS, Record


class CandidateSeen(Contract):
    """A replica that could have answered, as it was seen when the request was let in."""

    worker: str
    model: str
    verdict: str


class TryExplained(Contract):
    """One replica that was asked. Seconds count from the request's arrival."""

    worker: str
    model: str
    began_s: float
    ended_s: float | None
    what: str
    """`answered`, `under way`, or what happened instead (the failure table of docs/operations.md)."""
    fault: str | None = None
    """Whose fault that was: worker, client, nobody."""
    detail: str | None = None


class RequestExplained(Contract):
    """Answer of `GET /requests/{id}`. Seconds count from the arrival; null is not known, or not yet."""

    request_id: str
    arrived_at: float
    """Seconds since the epoch."""
    path: str
    key: str | None
    """Name of the API key."""
    requested_model: str | None
    model: str | None
    worker: str | None
    stream: bool
    status: int | None
    error: str | None
    """The error's code, or its type, where the answer was one."""
    complete: bool
    """Whether the answer reached its end."""
    under_way: bool
    waited_s: float | None
    """In the queue."""
    candidates: list[CandidateSeen]
    tries: list[TryExplained]
    first_byte_s: float | None
    duration_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_estimated: bool
    """Whether the gateway counted an external server's events, since its answer held no figures."""


def explain(record: Record) -> RequestExplained:
    """What the record tells."""

    def since(moment: float | None) -> float | None:
        return None if moment is None else round(moment - record.started, 4)

    under_way = record.ended is None
    return RequestExplained(
        request_id=record.request_id,
        arrived_at=record.arrived_at,
        path=record.path,
        key=record.identity,
        requested_model=record.requested_model,
        model=record.model,
        worker=record.worker,
        stream=record.stream,
        status=record.status if under_way else record.status or CLIENT_LEFT_STATUS,
        error=record.error,
        complete=record.complete,
        under_way=under_way,
        waited_s=None if record.waited_s is None else round(record.waited_s, 4),
        candidates=[
            CandidateSeen(worker=worker, model=model, verdict=verdict)
            for worker, model, verdict in record.candidates
        ],
        tries=_tries(record),
        first_byte_s=since(record.first_byte),
        duration_s=since(record.ended),
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        tokens_estimated=record.tokens_estimated,
    )


def _tries(record: Record) -> list[TryExplained]:
    """Tries follow each other: each ends when the next one begins, the last one with the request."""
    ends = [began for _, _, began in record.asked[1:]] + [record.ended]
    explained = []
    for (worker, model, began), ended, failed in zip_longest(
        record.asked, ends[: len(record.asked)], record.failed[: len(record.asked)]
    ):
        fault = None if failed is None else JUDGEMENTS[failed.what].fault.value
        explained.append(
            TryExplained(
                worker=worker,
                model=model,
                began_s=round(began - record.started, 4),
                ended_s=None if ended is None else round(ended - record.started, 4),
                what=_what(failed, ended),
                fault=fault,
                detail=failed.detail or None if failed is not None else None,
            )
        )
    return explained


def _what(failed: FailedTry | None, ended: float | None) -> str:
    if failed is not None:
        return failed.what.value
    return "under way" if ended is None else "answered"
