"""Range headers (RFC 9110, 14): one range of bytes, or all. Pure."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


class Unsatisfiable(ValueError):
    """A range that begins behind the end."""


@dataclass(frozen=True)
class Span:
    """Part of a file."""

    first: int
    length: int

    def content_range(self, size_bytes: int) -> str:
        """The header's value."""
        return f"bytes {self.first}-{self.first + self.length - 1}/{size_bytes}"


def requested_span(header: str | None, size_bytes: int) -> Span | None:
    """The part asked for; None means the whole file. Raises Unsatisfiable.

    Several ranges, other units and nonsense are ignored, which the RFC allows.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size_bytes)
        if length == 0:
            raise Unsatisfiable(header)
        return Span(size_bytes - length, length)
    first = int(match[1])
    last = min(int(match[2]), size_bytes - 1) if match[2] else size_bytes - 1
    if match[2] and int(match[2]) < first:
        return None
    if first >= size_bytes:
        raise Unsatisfiable(header)
    return Span(first, last - first + 1)
