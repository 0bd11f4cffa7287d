"""OpenAI's JSON of one choice of a plain completion."""

from typing import Any

from msp_model_service.engines.chat import TokenEvent, TokenLogprob


class CompletionText:
    """Gathers events until they are taken: all of them at the end, or a few at a time for a stream."""

    def __init__(self, index: int, echo: str, with_logprobs: bool) -> None:
        """`echo` is put before the answer."""
        self._index = index
        self._text = echo
        self._with_logprobs = with_logprobs
        self._logprobs: list[TokenLogprob] = []
        self._finish: str | None = None
        self._offset = len(echo)
        """Where in the whole text the next token begins, in characters."""

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._text or self._logprobs or self._finish)

    def add(self, event: TokenEvent) -> None:
        """One more event."""
        self._text += event.text
        self._logprobs += event.logprobs
        self._finish = event.finish

    def taken(self) -> dict[str, Any]:
        """The choice with what was gathered since the last time."""
        choice = {
            "index": self._index,
            "text": self._text,
            "logprobs": self._logprobs_json() if self._with_logprobs else None,
            "finish_reason": self._finish,
        }
        self._text, self._logprobs = "", []
        return choice

    def _logprobs_json(self) -> dict[str, Any]:
        tokens = [one.bytes.decode("utf-8", "replace") for one in self._logprobs]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [max(one.logprob, -9999.0) for one in self._logprobs],
            "top_logprobs": [
                {other.bytes.decode("utf-8", "replace"): max(other.logprob, -9999.0) for other in one.top}
                for one in self._logprobs
            ],
            "text_offset": offsets,
        }
