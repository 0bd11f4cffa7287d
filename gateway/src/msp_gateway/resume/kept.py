"""The bytes that streams have passed on, kept within limits until the streams end."""

PER_STREAM_BYTES = 4 * 1024 * 1024
"""Some 15,000 tokens; a longer answer cannot be gone on with."""

ALL_STREAMS_BYTES = 256 * 1024 * 1024


class Kept:
    """What one stream has passed on."""

    def __init__(self, budget: "KeptBytes") -> None:
        self._budget = budget
        self._parts: list[bytes] = []
        self._size = 0
        self.whole = True
        """Whether nothing is missing."""

    def add(self, part: bytes) -> None:
        """One more part, if there is room; without it none is of use any more."""
        if not self.whole:
            return
        if self._budget.takes(self._size, len(part)):
            self._parts.append(part)
            self._size += len(part)
        else:
            self.whole = False
            self.forget()

    def forget(self) -> None:
        """Give its bytes up; what is added from now on is a stream of its own."""
        self._budget.used -= self._size
        self._parts, self._size = [], 0

    def bytes(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


class KeptBytes:
    """The room for all streams together."""

    def __init__(self, per_stream: int = PER_STREAM_BYTES, all_streams: int = ALL_STREAMS_BYTES) -> None:
        self._per_stream, self._all_streams = per_stream, all_streams
        self.used = 0
        """Bytes that are kept now."""

    def stream(self) -> Kept:
        """Room for one stream. Whoever has it must `forget` at its end."""
        return Kept(self)

    def takes(self, size: int, more: int) -> bool:
        """Whether a stream of this size may grow; if so, it is counted."""
        fits = size + more <= self._per_stream and self.used + more <= self._all_streams
        self.used += more if fits else 0
        return fits
