"""Joins what the gateway knows of a request, whose it is, with what its worker says that it used."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from msp_common.contracts.usage import RequestUsage
from msp_gateway.admission.interfaces import Ask, Progress
from msp_gateway.admission.rate_limits import BYTES_PER_TOKEN, RateLimits
from msp_gateway.usage.book import UsageBook
from msp_gateway.usage.told import Told

KEPT_S = 300.0
"""For so long after a request's end its worker's report is waited for."""
MAX_KEPT = 50_000


class UsageSink(Protocol):
    """Takes what workers tell."""

    def used(self, usage: RequestUsage) -> None:
        """One request is over at its worker; it may still be on its way to the client."""


@dataclass(eq=False, slots=True)
class Entry:
    """One request that was let in: of what it asked, only what is needed until long after its end."""

    request_id: str
    key_id: str
    model_id: str
    body_bytes: int
    progress: Progress
    charged: float
    """Tokens that were taken from the key's limit so far."""
    ledger: "UsageLedger"
    reported: bool = False
    told: int | None = None
    """Tokens that workers told of; null while none did, as for a request that they refused."""
    ended_at: float | None = None

    def closed(self, gpu_s: float) -> None:
        """The request has ended; its share of GPU time."""
        self.ledger.closed(self, gpu_s)

    @property
    def model(self) -> str:
        """The model that answered, or that was asked last; else the one that was to."""
        return self.progress.model or self.model_id


class UsageLedger:
    """Entries by request id, from admission until some time after the request's end.

    Clients may choose ids, so one id may stand for several requests: each report goes to the oldest that has
    none. A second report for one request is that of another replica that was tried: it counts too, for the
    work was done.
    """

    def __init__(
        self,
        limits: RateLimits,
        book: UsageBook,
        metrics: CollectorRegistry,
        clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._book = book
        self._clock = clock
        # By id, in the order in which they came: apart, so that nobody looks through thousands of one id.
        self._unreported: dict[str, list[Entry]] = {}
        self._reported: dict[str, list[Entry]] = {}
        self._ended: deque[Entry] = deque()
        self._tokens = Counter(
            "msp_gateway_tokens",
            "Tokens that workers told of, by model and kind (prompt, completion)",
            ["model", "kind"],
            registry=metrics,
        )
        self._audio_s = Counter(
            "msp_gateway_audio_seconds", "Seconds of sound transcribed", ["model"], registry=metrics
        )

    def opened(self, ask: Ask, estimate: float) -> Entry:
        """The request is let in; so many tokens were charged to its key."""
        key_id = ask.identity.key_id
        entry = Entry(ask.request_id, key_id, ask.model_id, ask.body_bytes, ask.progress, estimate, self)
        _append(self._unreported, entry)
        return entry

    def closed(self, entry: Entry, gpu_s: float) -> None:
        """The request has ended; its share of GPU time."""
        now = self._clock()
        self._forget(now)
        entry.ended_at = now
        self._ended.append(entry)
        self._book.request(entry.key_id, entry.model, gpu_s)
        if entry.charged and entry.told is None and (entry.progress.status or 500) >= 400:
            # Nothing was made for it, as far as is known; a report that comes yet is charged in full.
            self._limits.charge(entry.key_id, -entry.charged)
            entry.charged = 0.0

    def used(self, usage: RequestUsage) -> None:
        """Requests of other gateways, and of the time before this one's start, are passed over."""
        entry = self._reported_by(usage.request_id)
        if entry is None:
            return
        self._count(entry, Told(usage.prompt_tokens, usage.completion_tokens, usage.audio_s))

    def told(self, request_id: str, told: Told) -> None:
        """As `used`, by an answer itself, which is still on its way to the client."""
        entry = self._reported_by(request_id)
        if entry is None:
            return
        if told.estimated and told.prompt_tokens is None:
            # By the same rule as it was let in.
            told = replace(told, prompt_tokens=1 + entry.body_bytes // BYTES_PER_TOKEN)
        entry.progress.tokens_estimated = told.estimated
        self._count(entry, told)

    def _count(self, entry: Entry, told: Told) -> None:
        key_id, model = entry.key_id, entry.model
        prompt, completion = told.prompt_tokens or 0, told.completion_tokens or 0
        if told.prompt_tokens is not None or told.completion_tokens is not None:
            self._charge(entry, prompt, completion, learns=not told.estimated)
            self._tokens.labels(model, "prompt").inc(prompt)
            self._tokens.labels(model, "completion").inc(completion)
        self._book.used(key_id, model, prompt, completion, told.audio_s or 0.0)
        if told.audio_s:
            self._audio_s.labels(model).inc(told.audio_s)

    def _reported_by(self, request_id: str) -> Entry | None:
        """The oldest that has no report yet, else the one that had one last."""
        waiting = self._unreported.get(request_id)
        if waiting is None:
            reported = self._reported.get(request_id)
            return reported[-1] if reported else None
        entry = waiting[0]
        _remove(self._unreported, entry)
        entry.reported = True
        _append(self._reported, entry)
        return entry

    def _charge(self, entry: Entry, prompt: int, completion: int, *, learns: bool) -> None:
        progress, key_id = entry.progress, entry.key_id
        progress.prompt_tokens = (progress.prompt_tokens or 0) + prompt
        progress.completion_tokens = (progress.completion_tokens or 0) + completion
        entry.told = (entry.told or 0) + prompt + completion
        self._limits.charge(key_id, entry.told - entry.charged)
        if learns:
            self._limits.learn(key_id, entry.told)
        entry.charged = float(entry.told)

    def _forget(self, now: float) -> None:
        while self._ended:
            ended_at = self._ended[0].ended_at
            if len(self._ended) <= MAX_KEPT and ended_at is not None and now - ended_at < KEPT_S:
                return
            entry = self._ended.popleft()
            _remove(self._reported if entry.reported else self._unreported, entry)


def _append(entries: dict[str, list[Entry]], entry: Entry) -> None:
    same = entries.get(entry.request_id)
    if same is None:
        entries[entry.request_id] = [entry]
    else:
        same.append(entry)


def _remove(entries: dict[str, list[Entry]], entry: Entry) -> None:
    same = entries[entry.request_id]
    same.remove(entry)  # one of the first, as entries go in about the order in which they came
    if not same:
        del entries[entry.request_id]
