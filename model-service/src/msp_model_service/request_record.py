"""What is known of one request while it is answered; whoever works on it may note what it learns."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass
class RequestRecord:
    """One request. Moments are the clock's seconds."""

    path: str
    clock: Clock = time.perf_counter
    request_id: str | None = None
    status: int | None = None
    stream: bool = False
    first_byte: float | None = None
    first_token: float | None = None
    complete: bool = False
    """Whether the answer reached its end: not so when it broke off or the client left."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the prompt's tokens those that need not be read again; null where the engine does not tell."""
    audio_s: float | None = None
    on_gap: Callable[[float], None] = lambda seconds: None
    """Told the seconds between one token and the next."""
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def since_began(self, moment: float | None) -> float | None:
        """Seconds from the request's arrival; null for what has not happened."""
        return None if moment is None else moment - self.began

    def note_tokens(self, prompt: int, completion: int) -> None:
        """Tokens were used, beside those noted before."""
        self.prompt_tokens = (self.prompt_tokens or 0) + prompt
        self.completion_tokens = (self.completion_tokens or 0) + completion

    def token_clock(self) -> "TokenClock":
        """For one sequence of tokens; a request may have several at once."""
        return TokenClock(self)


class TokenClock:
    """Times the tokens of one sequence."""

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._last: float | None = None

    def note(self, tokens: int) -> None:
        """So many have arrived now; tokens that arrive together share the time since the last."""
        if tokens < 1:
            return
        record, now = self._record, self._record.clock()
        if record.first_token is None:
            record.first_token = now
        if self._last is not None:
            record.on_gap((now - self._last) / tokens)
        self._last = now


CURRENT: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)
"""The record of the request that the current task works on; null outside of the worker's own paths."""
