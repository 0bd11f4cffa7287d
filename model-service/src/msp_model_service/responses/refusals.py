"""What of `/v1/responses` a service that stores nothing does not have. Refused by name, never passed over."""

from collections.abc import Iterator, Mapping
from typing import Any

from msp_common.errors import InvalidRequest

ITEM_TYPES = ("message", "function_call", "function_call_output", "reasoning")
"""Items of a conversation that a model of one's own can have part in."""

LOOKED_AT = ("previous_response_id", "conversation", "prompt", "background", "truncation", "tools")
"""The fields that matter here."""


def refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for the first field that asks for state, or for work outside of this answer.

    `body` is the request as JSON, or as much of it as is looked at.
    """
    for param, reason in _unsupported(body):
        raise InvalidRequest(
            f"Unsupported value for '{param}': {reason}.", param=param, code="unsupported_value"
        )


def refuse_item_type(kind: object, place: str) -> None:
    """Raises InvalidRequest for an item that only has a meaning where somebody keeps or runs something."""
    if kind in ITEM_TYPES:
        return
    if kind == "item_reference":
        reason = "nothing is stored here that could be referred to; send the item itself"
    else:
        reason = f"{kind!r} items are not supported, only {', '.join(repr(one) for one in ITEM_TYPES)}"
    raise InvalidRequest(
        f"Unsupported value for '{place}.type': {reason}.", param=f"{place}.type", code="unsupported_value"
    )


def _unsupported(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if body.get("previous_response_id") is not None:
        yield (
            "previous_response_id",
            "responses are not stored here; send the whole conversation in 'input'",
        )
    if body.get("conversation") is not None:
        yield "conversation", "conversations are not stored here; send all of it in 'input'"
    if body.get("prompt") is not None:
        yield "prompt", "there are no stored prompts here; send 'instructions' and 'input'"
    if body.get("background"):
        yield "background", "an answer ends with the connection that asked for it; leave it out"
    if body.get("truncation") not in (None, "disabled"):
        yield "truncation", "nothing is cut out of a conversation silently; only 'disabled' is supported"
    tools = body.get("tools")
    for i, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if kind != "function":
            yield f"tools.{i}.type", f"{kind!r} tools are not supported, only 'function'"
