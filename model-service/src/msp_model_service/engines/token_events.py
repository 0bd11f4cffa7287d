"""From chosen tokens to events: characters completed, stop sequences cut off, the end recognised.

Pure; every engine that chooses its own tokens feeds one of these per generation.
"""

import codecs
from collections.abc import Set

from msp_model_service.chat.stops import Stops, StopsBehindThinking, StopWatcher
from msp_model_service.chat.vocabulary import Vocabulary
from msp_model_service.engines.chat import FinishReason, GenerationRequest, TokenEvent, TokenLogprob, Usage


class TokenEvents:
    """The events of one generation."""

    def __init__(
        self,
        request: GenerationRequest,
        vocabulary: Vocabulary,
        *,
        end_ids: Set[int],
        max_tokens: int,
        shown_ids: Set[int] = frozenset(),
    ) -> None:
        """`shown_ids` are control tokens that belong to the text all the same (markers of tool calls)."""
        self._request = request
        self._vocabulary = vocabulary
        self._end_ids = frozenset() if request.ignore_eos else end_ids
        self._max_tokens = max_tokens
        self._shown_ids = shown_ids
        # What is no UTF-8 at all becomes U+FFFD; what may still become a character is waited for.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = _stops(request)
        self._fresh = not request.prompt.continues
        self._completion_tokens = 0
        self.cached_tokens: int | None = None
        """Set by an engine that keeps what it read of earlier prompts: how much of this one it had."""
        self._decoded_chars = 0
        self._shown_chars = 0
        self._waiting: list[tuple[int, int, TokenLogprob]] = []
        """Log probabilities not yet told, with the characters decoded before and after their token."""

    def feed(self, token_id: int, logprob: TokenLogprob | None = None) -> TokenEvent:
        """The event of one chosen token. After one with `finish`, feed no more."""
        self._completion_tokens += 1
        ends = token_id in self._end_ids
        before = self._decoded_chars
        hidden = ends or (self._vocabulary.is_control(token_id) and token_id not in self._shown_ids)
        shown = "" if hidden else self._show(token_id)
        if logprob is not None and not hidden:
            self._waiting.append((before, self._decoded_chars, logprob))
        if ends or self._stops.stopped:
            return self._last(token_id, shown, "stop")
        if self._completion_tokens >= self._max_tokens:
            return self._last(token_id, shown, "length")
        self._shown_chars += len(shown)
        return TokenEvent(shown, (token_id,), self._told())

    def _show(self, token_id: int) -> str:
        data = (self._vocabulary.first_bytes_of if self._fresh else self._vocabulary.bytes_of)(token_id)
        self._fresh = False
        text = self._decoder.decode(data)
        self._decoded_chars += len(text)
        return self._stops.feed(text)

    def _told(self) -> tuple[TokenLogprob, ...]:
        count = 0
        while count < len(self._waiting) and self._waiting[count][1] <= self._shown_chars:
            count += 1
        told, self._waiting = self._waiting[:count], self._waiting[count:]
        return tuple(logprob for _, _, logprob in told)

    def _last(self, token_id: int, shown: str, finish: FinishReason) -> TokenEvent:
        """A character cut in the middle by the end of the answer is left out."""
        cut = self._stops.stopped
        text = shown + self._stops.finish()
        self._shown_chars += len(text)
        logprobs = tuple(lp for before, _, lp in self._waiting if not cut or before < self._shown_chars)
        usage = Usage(len(self._request.prompt.token_ids), self._completion_tokens, self.cached_tokens)
        return TokenEvent(text, (token_id,), logprobs, finish, usage)


def _stops(request: GenerationRequest) -> Stops:
    thinking = request.prompt.reasoning
    if thinking is None:
        return StopWatcher(request.stop)
    return StopsBehindThinking(
        request.stop, start=thinking.start, end=thinking.end, begun=request.prompt.thinks
    )
