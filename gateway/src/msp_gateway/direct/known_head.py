"""The head of the request that a connection had last, known again without being parsed.

Before their bodies, a client's requests on one connection differ in their bodies' lengths and in little else.
Only what the parser has understood is known: the same bytes, where again a request begins, mean the same.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from msp_gateway.fields import Fields
from msp_gateway.paths import RelayPath

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_MAX_DIGITS = 9


class RequestHead(NamedTuple):
    """What is known of a request before its body."""

    path: RelayPath
    fields: Fields


class KnownHead:
    """One head, up to its empty line; the digits of its Content-Length may be others the next time."""

    __slots__ = ("_after", "_before", "_digits", "_head", "scope")

    def __init__(
        self, before: bytes, digits: bytes, after: bytes, head: RequestHead, scope: Mapping[str, object]
    ) -> None:
        """`before` and `after` are the bytes around the digits of the length."""
        self._before, self._digits, self._after = before, digits, after
        self._head = head
        self.scope = scope
        """Of the request that had this head; its `headers` are that one's."""

    def request_in(self, data: bytes, max_body_bytes: int) -> tuple[RequestHead, bytes] | None:
        """The request that these bytes are; None unless they are this head and a whole body, and no more."""
        if not data.startswith(self._before):
            return None
        begin = len(self._before)
        end = data.find(self._after, begin, begin + _MAX_DIGITS + len(self._after))
        digits = data[begin:end]
        body_at = end + len(self._after)
        size = len(data) - body_at
        if end < 0 or not digits.isdigit() or int(digits) != size or size > max_body_bytes:
            return None
        if digits != self._digits:
            self._head = RequestHead(self._head.path, self._head.fields.with_length(digits))
            self._digits = digits
        return self._head, data[body_at:]


def known_head(data: bytes, head: RequestHead, scope: Mapping[str, object]) -> KnownHead | None:
    """What is to be known of a request that came as these bytes; None unless they are all of it."""
    head_end = data.find(_END) + len(_END)
    length = _LENGTH.search(data, 0, head_end)
    if length is None or int(length[1]) != len(data) - head_end:
        return None
    return KnownHead(data[: length.start(1)], length[1], data[length.end(1) : head_end], head, scope)
