"""The failure table: what happened at a worker, whose fault it is, and whether another may be tried.

Pure. Routing, health reports and answers all follow from it, so that a client's mistake never counts against
a worker, and a request that breaks workers never reaches more than two of them.

One row lives elsewhere: a kept connection that died idle is nobody's fault, and the HTTP client itself asks
the same worker once more on a fresh one (`http1`). Nothing of it reaches this table.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

from msp_common.contracts.workers import ReportKind, Verdict


class Happened(StrEnum):
    """What the gateway saw of one try, as far as it is no good answer."""

    CLIENT_ERROR = "client_error"
    """4xx from the worker."""
    TOO_LONG = "too_long"
    """Prompt and answer do not fit this model's context."""
    WRONG_MODALITY = "wrong_modality"
    """The request holds images or audio, which this model cannot take in."""
    BACK_PRESSURE = "back_pressure"
    """429, or 503 with Retry-After: busy, or draining."""
    LEAVING = "leaving"
    """Refused by a worker that has said meanwhile that it is being stopped."""
    REFUSED = "refused"
    """Refused, unreachable, TLS error: nothing was sent."""
    RESET = "reset"
    """Sent, then reset or end of file before the first byte."""
    NO_FIRST_BYTE = "no_first_byte"
    """Nothing within the limit, while the worker's engine moves on or is silent about it."""
    SILENT = "silent"
    """The same after the first byte."""
    STALLED = "stalled"
    """Nothing for a time, before or after the first byte, and the worker's own progress stands still."""
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
    STAND_IN = "another model that stands in for this one"
    NONE = "nobody"


class Lack(StrEnum):
    """What a model lacked for a request, so that another one may stand in for it."""

    UNAVAILABLE = "unavailable"
    CONTEXT = "context"
    MODALITY = "modality"


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
    Happened.TOO_LONG: Judgement(Fault.CLIENT, None, Retry.STAND_IN),
    Happened.WRONG_MODALITY: Judgement(Fault.CLIENT, None, Retry.STAND_IN),
    Happened.BACK_PRESSURE: Judgement(Fault.NOBODY, None, Retry.ANY),
    Happened.LEAVING: Judgement(Fault.NOBODY, None, Retry.ANY),
    Happened.REFUSED: Judgement(Fault.WORKER, ReportKind.REFUSED, Retry.ANY),
    Happened.RESET: Judgement(Fault.WORKER, ReportKind.RESET, Retry.ONE_OTHER),
    Happened.NO_FIRST_BYTE: Judgement(Fault.NOBODY, None, Retry.NONE),
    Happened.SILENT: Judgement(Fault.NOBODY, None, Retry.NONE),
    Happened.STALLED: Judgement(Fault.WORKER, ReportKind.STALLED, Retry.NONE),
    Happened.SERVER_ERROR: Judgement(Fault.WORKER, ReportKind.SERVER_ERROR, Retry.ONE_OTHER),
    Happened.GARBAGE: Judgement(Fault.WORKER, ReportKind.GARBAGE, Retry.ONE_OTHER),
    Happened.BROKEN_OFF: Judgement(Fault.WORKER, ReportKind.RESET, Retry.NONE),
    Happened.CLIENT_LEFT: Judgement(Fault.NOBODY, None, Retry.NONE),
}

_LACKS = {Happened.TOO_LONG: Lack.CONTEXT, Happened.WRONG_MODALITY: Lack.MODALITY}
_CONTEXT_CODES = frozenset({"context_length_exceeded"})
_PART_NEEDS = {"image_url": "image", "input_image": "image", "input_audio": "audio"}


@dataclass(frozen=True)
class FailedTry:
    """One try that brought no good answer."""

    what: Happened
    worker_id: str
    model_id: str
    detail: str = ""


def of_status(status: int, *, has_retry_after: bool, external: bool = False) -> Happened | None:
    """What a worker's HTTP status means; None for an answer to pass on.

    An external server's 401 and 403 are about the key that it was asked with, which is not the client's.
    """
    if 200 <= status < 300:
        return None
    if status == 429 or (status == 503 and has_retry_after):
        return Happened.BACK_PRESSURE
    if 400 <= status < 500 and not (external and status in (401, 403)):
        return Happened.CLIENT_ERROR
    return Happened.SERVER_ERROR


def of_refusal(code: str | None, param: str | None, takes: Collection[str]) -> Happened:
    """What a worker's 400 means: that its model lacks something, or that the client made a mistake.

    `takes` are the model's input modalities: an image that it refuses although it sees is a bad image.
    """
    if code in _CONTEXT_CODES:
        return Happened.TOO_LONG
    needed = _PART_NEEDS.get((param or "").rpartition(".")[2])
    if needed is not None and needed not in takes:
        return Happened.WRONG_MODALITY
    return Happened.CLIENT_ERROR


def of_no_connection(verdict: Verdict | None) -> Happened:
    """What a refused connection means, given the newest verdict; None for a worker that signed off."""
    return Happened.LEAVING if verdict in (None, Verdict.DRAINING) else Happened.REFUSED


def may_ask(model_id: str, stands_in_for: Collection[Lack] | None, past: Sequence[FailedTry]) -> bool:
    """Whether a replica of this model may get the request after these tries.

    `stands_in_for` says for the lack of what the model may take another one's place; None for the model that
    the request is for.
    """
    if stands_in_for is None and not past:
        return True
    retries = [JUDGEMENTS[tried.what].retry for tried in past]
    if Retry.NONE in retries:
        return False
    lacks = {tried.model_id: _LACKS[tried.what] for tried in past if tried.what in _LACKS}
    if model_id in lacks:
        return False
    received = [tried for tried, retry in zip(past, retries, strict=True) if retry is Retry.ONE_OTHER]
    if received:
        return len(received) == 1 and received[0].model_id == model_id
    return stands_in_for is None or set(lacks.values() or (Lack.UNAVAILABLE,)) <= set(stands_in_for)


def may_go_on(past: Sequence[FailedTry]) -> bool:
    """Whether another replica may go on with a stream that broke in the middle.

    Only if its worker died or stands still: another one may be at work on it yet. And a request at which a
    second worker failed is given to no third.
    """
    suffered = [tried for tried in past if _may_have_harmed(tried.what)]
    others = {JUDGEMENTS[tried.what].retry for tried in past if not _may_have_harmed(tried.what)}
    broke = len(suffered) == 1 and suffered[0].what in (Happened.BROKEN_OFF, Happened.STALLED)
    return broke and Retry.NONE not in others


def _may_have_harmed(what: Happened) -> bool:
    """Whether a worker that had the request failed, by its own fault or the request's."""
    return JUDGEMENTS[what].fault is Fault.WORKER and what is not Happened.REFUSED
