"""Spans of time as people write them. Pure."""

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


class BadDuration(ValueError):
    """No span of time."""


def seconds(text: str) -> float:
    """`90s`, `30m`, `24h`, `7d`, `2w`, or `0`. Raises BadDuration."""
    if text.strip() == "0":
        return 0
    if not (match := _SPAN.fullmatch(text.strip().lower())):
        raise BadDuration(f"{text!r} is no span of time; expected a number and s, m, h, d or w, such as 24h")
    return float(match[1]) * _SECONDS[match[2]]
