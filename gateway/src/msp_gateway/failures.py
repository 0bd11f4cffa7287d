"""The failure table: what happened at a worker, whose fault it is, and whether another may be tried.

Pure. Routing, health reports and answers all follow from it, so that a client's mistake never counts against
a worker, and a request that breaks workers never reaches more than two of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

from msp_common.contracts.workers import ReportKind

STANDSTILL_S = 30.0
"""An engine that has work and made no token nor prefill chunk for so long stands still."""


class Happened(StrEnum):
    """What the gateway saw of one try, as far as it is no good answer."""

    CLIENT_ERROR = "client_error"
    """4xx from the worker."""
    BACK_PRESSURE = "back_pressure"
    """429, or 503 with Retry-After."""
    REFUSED = "refused"
    """Refused, unreachable, TLS error: nothing was sent."""
    RESET = "reset"
    """Sent, then reset or end of file before the first byte."""
    NO_FIRST_BYTE = "no_first_byte"
    """Nothing within the limit, while the worker's engine moves on or is silent about it."""
    STALLED = "stalled"
    """Nothing within the limit, and the worker's own progress stands still."""
    SERVER_ERROR = "server_error"
    """5xx (or a redirect, which no engine gives) before the first byte."""
    GARBAGE = "garbage"
    """Bytes that are no HTTP."""
    BROKEN_OFF = "broken_off"
    """A break after the first byte."""
    CLIENT_LEFT = "client_left"
    """The client closed its connection."""


class Retry(Enum):
    """Who may be asked next."""

    ANY = "every other candidate"
    ONE_OTHER = "at most one other replica of the same model"
    NONE = "nobody"


class Fault(StrEnum):
    """Whose fault it is."""

    CLIENT = "client"
    WORKER = "worker"
    NOBODY = "nobody"


@dataclass(frozen=True)
class Judgement:
    """What follows from one thing that happened. `report` is None where the worker's health is untouched."""

    fault: Fault
    report: ReportKind | None
    retry: Retry


JUDGEMENTS = {
    Happened.CLIENT_ERROR: Judgement(Fault.CLIENT, None, Retry.NONE),
    Happened.BACK_PRESSURE: Judgement(Fault.NOBODY, None, Retry.ANY),
    Happened.REFUSED: Judgement(Fault.WORKER, ReportKind.REFUSED, Retry.ANY),
    Happened.RESET: Judgement(Fault.WORKER, ReportKind.RESET, Retry.ONE_OTHER),
    Happened.NO_FIRST_BYTE: Judgement(Fault.NOBODY, None, Retry.NONE),
    Happened.STALLED: Judgement(Fault.WORKER, ReportKind.STALLED, Retry.NONE),
    Happened.SERVER_ERROR: Judgement(Fault.WORKER, ReportKind.SERVER_ERROR, Retry.ONE_OTHER),
    Happened.GARBAGE: Judgement(Fault.WORKER, ReportKind.GARBAGE, Retry.ONE_OTHER),
    Happened.BROKEN_OFF: Judgement(Fault.WORKER, ReportKind.RESET, Retry.NONE),
    Happened.CLIENT_LEFT: Judgement(Fault.NOBODY, None, Retry.NONE),
}


@dataclass(frozen=True)
class FailedTry:
    """One try that brought no good answer."""

    what: Happened
    worker_id: str
    model_id: str
    detail: str = ""


def of_status(status: int, *, has_retry_after: bool) -> Happened | None:
    """What a worker's HTTP status means; None for an answer to pass on."""
    if 200 <= status < 300:
        return None
    if status == 429 or (status == 503 and has_retry_after):
        return Happened.BACK_PRESSURE
    if 400 <= status < 500:
        return Happened.CLIENT_ERROR
    return Happened.SERVER_ERROR


def of_timeout(last_progress_age_s: float | None) -> Happened:
    """What the lack of a first byte means, given the worker's own word on its engine's progress."""
    if last_progress_age_s is not None and last_progress_age_s >= STANDSTILL_S:
        return Happened.STALLED
    return Happened.NO_FIRST_BYTE


def may_ask(model_id: str, past: Sequence[FailedTry]) -> bool:
    """Whether a replica of this model may get the request after these tries."""
    retries = [JUDGEMENTS[tried.what].retry for tried in past]
    if Retry.NONE in retries:
        return False
    received = [tried for tried, retry in zip(past, retries, strict=True) if retry is Retry.ONE_OTHER]
    return not received or (len(received) == 1 and received[0].model_id == model_id)
