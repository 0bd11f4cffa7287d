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

    def note(self, index: int, event: TokenEvent) -> None:
        """One event of the choice `index`. The engine's own count, in the last event, has the last word."""
        self._completion_tokens[index] += len(event.token_ids)
        if event.usage is not None:
            self._completion_tokens[index] = event.usage.completion_tokens
            self._prompt_tokens[index // self._choices] = event.usage.prompt_tokens

    @property
    def usage(self) -> Usage:
        """So far."""
        return Usage(sum(self._prompt_tokens), sum(self._completion_tokens))
