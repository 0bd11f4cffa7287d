"""OpenAI's JSON of one choice of a plain completion."""

from typing import Any

from msp_model_service.engines.chat import PromptToken, TokenEvent

_UNLIKELIEST = -9999.0


class CompletionText:
    """Gathers events until they are taken: all of them at the end, or a few at a time for a stream."""

    def __init__(self, index: int, echo: str, with_logprobs: bool) -> None:
        """`echo` is put before the answer; where log probabilities are told, the events bring its own."""
        self._index = index
        self._text = self._echo = echo
        self._with_logprobs = with_logprobs
        self._tokens: list[PromptToken] = []
        """Of prompt and answer; only the prompt's first comes without a log probability."""
        self._finish: str | None = None
        self._offset = 0
        """Where in the whole text the next token begins, in characters."""

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._text or self._tokens or self._finish)

    def add(self, event: TokenEvent) -> None:
        """One more event."""
        self._text += event.text
        self._tokens += event.prompt_tokens
        self._tokens += [PromptToken(one.bytes, one) for one in event.logprobs]
        self._finish = event.finish

    def taken(self) -> dict[str, Any]:
        """The choice with what was gathered since the last time."""
        choice = {
            "index": self._index,
            "text": self._text,
            "logprobs": self._logprobs_json() if self._with_logprobs else None,
            "finish_reason": self._finish,
        }
        self._text, self._tokens = "", []
        return choice

    def _logprobs_json(self) -> dict[str, Any]:
        texts = [_text(token.bytes) for token in self._tokens]
        offsets = []
        for text, token in zip(texts, self._tokens, strict=True):
            offsets.append(self._offset)
            if token.logprob is not None or self._echo.startswith(text):
                # A beginning-of-text that the tokenizer puts before the prompt is no part of it.
                self._offset += len(text)
        told = [token.logprob for token in self._tokens]
        return {
            "tokens": texts,
            "token_logprobs": [None if one is None else max(one.logprob, _UNLIKELIEST) for one in told],
            "top_logprobs": [
                None
                if one is None
                else {_text(other.bytes): max(other.logprob, _UNLIKELIEST) for other in one.top}
                for one in told
            ],
            "text_offset": offsets,
        }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
