"""How long a hub asks to be left alone, as its answers' headers say. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

# `"api";r=0;t=55`: the policy's name, requests that remain, seconds until there are more again.
_LIMIT = re.compile(r'"[^"]*"((?:\s*;\s*\w+=\d+)+)')


def wait_asked_s(headers: Mapping[str, str], now: float) -> float | None:
    """Of a refusal (429, 503): by Retry-After, in seconds or as a date, else by RateLimit. None: not said."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    if text:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            pass
        else:
            return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
    return exhausted_for_s(headers)


def exhausted_for_s(headers: Mapping[str, str]) -> float | None:
    """Of any answer: for how long no further request is allowed, by RateLimit; None while some remain.

    One second more than the header says, which is rounded down.
    """
    waits = []
    for limit in _LIMIT.finditer(headers.get("ratelimit", "")):
        fields = dict(re.findall(r"(\w+)=(\d+)", limit[1]))
        if fields.get("r") == "0" and "t" in fields:
            waits.append(float(fields["t"]) + 1)
    return max(waits, default=None)
