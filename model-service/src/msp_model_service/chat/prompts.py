"""The many forms of a completion's `prompt`."""

from typing import Any

from msp_common.errors import InvalidRequest
from msp_model_service.chat.wire import well_formed

MOST_PROMPTS = 64


def read_prompts(prompt: Any) -> list[str | list[int]]:
    """A text, texts, token ids, or lists of them, as a list of prompts. Raises InvalidRequest."""
    if isinstance(prompt, str):
        return [well_formed(prompt)]
    if not isinstance(prompt, list) or not prompt:
        raise _invalid(
            "prompt", "it must be a string, a list of strings, or lists of token ids, and not empty"
        )
    if all(_is_id(item) for item in prompt):
        return [list(prompt)]
    if len(prompt) > MOST_PROMPTS:
        raise _invalid("prompt", f"at most {MOST_PROMPTS} prompts may be sent at once")
    for i, item in enumerate(prompt):
        if not (isinstance(item, str) or (isinstance(item, list) and item and all(map(_is_id, item)))):
            raise _invalid(f"prompt.{i}", "it must be a string or a list of token ids, and not empty")
    return [well_formed(item) if isinstance(item, str) else item for item in prompt]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': {reason}.", param=param, code="invalid_value")
