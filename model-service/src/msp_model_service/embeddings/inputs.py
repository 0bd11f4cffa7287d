"""The `input` of an embeddings request: what forms it may have, and what is wrong with those that have none.

OpenAI allows a text, a list of texts, a list of token ids, and a list of lists of token ids.
"""

from collections.abc import Sequence
from typing import Any

from msp_common.errors import ContextTooLong, InvalidRequest
from msp_model_service.engines.embedder import EmbedderLimits

MAX_INPUTS = 2048
"""Inputs in one request; OpenAI's limit."""

MAX_TOKENS = 300_000
"""Tokens of all inputs of one request; OpenAI's limit."""

Texts = list[str]
TokenLists = list[list[int]]


def parse(value: Any) -> Texts | TokenLists:
    """The inputs as texts or as token ids. Raises InvalidRequest naming `input`, or `input.3` and so on."""
    if isinstance(value, str):
        _check_text(value, "input")
        return [value]
    if not isinstance(value, list):
        raise _wrong(
            "input", "expected a text, a list of texts, or token ids as a list or a list of lists", value
        )
    if not value:
        raise _wrong("input", "must not be empty", value)
    if _is_id(value[0]):
        _check_ids(value, "input")
        return [value]
    if len(value) > MAX_INPUTS:
        raise InvalidRequest(
            f"'input' has {len(value)} items; at most {MAX_INPUTS} fit into one request.", param="input"
        )
    check = _check_text if isinstance(value[0], str) else _check_ids
    for index, item in enumerate(value):
        check(item, f"input.{index}")
    return value


def check_vocabulary(inputs: Sequence[Sequence[int]], vocabulary: int, *, single: bool) -> None:
    """Raises InvalidRequest if an id is none of the model's: most often it is another tokenizer's."""
    for index, ids in enumerate(inputs):
        largest = max(ids)
        if largest >= vocabulary:
            param = _name(index, single)
            raise InvalidRequest(
                f"'{param}' has the token id {largest}, but this model's ids end at {vocabulary - 1}. Token "
                "ids must come from this model's own tokenizer; send text instead (in LangChain: "
                "check_embedding_ctx_length=False).",
                param=param,
            )


def check_lengths(inputs: Sequence[Sequence[int]], limits: EmbedderLimits, *, single: bool) -> None:
    """Raises ContextTooLong for an input that would have to be cut, InvalidRequest for too many tokens."""
    for index, ids in enumerate(inputs):
        if len(ids) > limits.max_tokens:
            raise too_long(index, str(len(ids)), limits, single=single)
    total = sum(map(len, inputs))
    if total > MAX_TOKENS:
        raise InvalidRequest(
            f"'input' has at least {total} tokens in all; at most {MAX_TOKENS} fit into one request.",
            param="input",
        )


def too_long(index: int, tokens: str, limits: EmbedderLimits, *, single: bool) -> ContextTooLong:
    """The error for the input with that index."""
    param = _name(index, single)
    return ContextTooLong(
        f"'{param}' has {tokens} tokens, and this model takes at most {limits.max_tokens}, special tokens "
        "included. Nothing is cut silently: split the text.",
        param=param,
    )


def _name(index: int, single: bool) -> str:
    return "input" if single else f"input.{index}"


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_text(value: Any, param: str) -> None:
    if not isinstance(value, str):
        raise _wrong(param, "expected a text like the items before it", value)
    if not value:
        raise _wrong(param, "must not be empty", value)
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(param, "half of a surrogate pair is no character", value)


def _check_ids(value: Any, param: str) -> None:
    if not isinstance(value, list):
        raise _wrong(param, "expected a text or a list of token ids, all items alike", value)
    if not value:
        raise _wrong(param, "must not be empty", value)
    for index, item in enumerate(value):
        if not _is_id(item) or item < 0:
            raise _wrong(f"{param}.{index}", "expected a token id, a whole number from 0", item)


def _wrong(param: str, reason: str, value: Any) -> InvalidRequest:
    shown = "" if value in ("", []) else f" (got {_short(value)})"
    return InvalidRequest(f"Invalid value for '{param}': {reason}{shown}.", param=param, code="invalid_value")


def _short(value: Any) -> str:
    if isinstance(value, (list, dict, str)):
        return {list: "a list", dict: "an object", str: "a text"}[type(value)]
    return "null" if value is None else repr(value)[:40]
