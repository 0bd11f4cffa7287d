"""The header fields of a client's request."""

from typing import Self

from msp_gateway.upstream import RawHeaders


class Fields(dict[bytes, bytes]):
    """By name in lower case, the first field of each; `raw` has all of them, in their order.

    One connection's requests may share them: nothing is changed in them but what is derived.
    """

    __slots__ = ("onward", "raw")

    def __init__(self, raw: RawHeaders) -> None:
        super().__init__(raw[::-1])
        self.raw = raw
        self.onward: list[tuple[bytes, bytes]] | None = None
        """Those that go on to workers, once they were asked for."""

    def with_length(self, digits: bytes) -> Self:
        """The same with another Content-Length."""
        name = b"content-length"
        changed = type(self)([(name, digits) if field[0] == name else field for field in self.raw])
        changed.onward = self.onward
        return changed
