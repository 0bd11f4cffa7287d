"""The header fields of a client's request."""

from msp_gateway.upstream import RawHeaders


class Fields(dict[bytes, bytes]):
    """By name in lower case, the first field of each; `raw` has all of them, in their order."""

    __slots__ = ("raw",)

    def __init__(self, raw: RawHeaders) -> None:
        super().__init__(raw[::-1])
        self.raw = raw
