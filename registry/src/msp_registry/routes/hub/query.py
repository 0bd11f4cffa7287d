"""Switches of hub calls, as the different clients write them. Pure."""

from collections.abc import Mapping


def is_on(text: str) -> bool:
    """`true` of httpx and JavaScript, `True` of requests, `1` of curl."""
    return text.lower() in ("true", "1")


def asks(query: Mapping[str, str], switch: str) -> bool:
    """Whether the switch is given, and on."""
    return is_on(query.get(switch, ""))
