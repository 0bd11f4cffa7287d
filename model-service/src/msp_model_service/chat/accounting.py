"""What one request used."""

from collections.abc import Sequence

from msp_model_service.engines.chat import PreparedPrompt, TokenEvent, Usage


class Account:
    """Counts the events of one request's choices."""

    def __init__(self, prompts: Sequence[PreparedPrompt], choices: int) -> None:
        """`choices` per prompt; the choices of a prompt share its tokens."""
        self._choices = choices
        self._prompt_tokens = [len(prompt.token_ids) for prompt in prompts]
        self._completion_tokens = [0] * (len(prompts) * choices)
        self._cached_tokens: list[int | None] = [None] * len(prompts)

    def note(self, index: int, event: TokenEvent) -> None:
        """One event of the choice `index`. The engine's own count, in the last event, has the last word."""
        self._completion_tokens[index] += len(event.token_ids)
        if event.usage is not None:
            self._completion_tokens[index] = event.usage.completion_tokens
            prompt = index // self._choices
            self._prompt_tokens[prompt] = event.usage.prompt_tokens
            if event.usage.cached_tokens is not None:
                # The second of two choices has what the first one read; the client paid for that one.
                known = self._cached_tokens[prompt]
                told = event.usage.cached_tokens
                self._cached_tokens[prompt] = told if known is None else min(known, told)

    @property
    def usage(self) -> Usage:
        """So far."""
        known = [tokens for tokens in self._cached_tokens if tokens is not None]
        return Usage(sum(self._prompt_tokens), sum(self._completion_tokens), sum(known) if known else None)
