"""Memory that pieces of files are collected in, and that later pieces get once more."""

import asyncio
import io

IDLE_S = 10.0
"""So long is memory kept that nobody asks for."""


class PieceBuffer:
    """Collects chunks in memory taken at once, which BytesIO hands out at the end without copying it.

    Cleared, it writes over the same memory, unless somebody still holds what was handed out: then BytesIO
    takes new memory by itself.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._data = io.BytesIO()
        if length:
            self._data.seek(length - 1)
            self._data.write(b"\0")
            self._data.seek(0)
        self.size = 0

    def clear(self) -> None:
        """Begin anew."""
        self._data.seek(0)
        self.size = 0

    def add(self, chunk: bytes | memoryview) -> int:
        """How many bytes these were."""
        self._data.write(chunk)
        self.size += len(chunk)
        return len(chunk)

    def value(self) -> bytes:
        """All of it."""
        return self._data.getvalue()


class PieceMemory:
    """Buffers that were given back: to fill new memory takes several times as long.

    At most `most` are kept, which counts to nobody's share, and none for long once no more are asked for.
    """

    def __init__(self, most: int, *, idle_s: float = IDLE_S) -> None:
        self._most = most
        self._idle_s = idle_s
        self._spare: list[PieceBuffer] = []
        self._idle: asyncio.TimerHandle | None = None

    @property
    def kept_bytes(self) -> int:
        """How much waits for the next to ask."""
        return sum(data.length for data in self._spare)

    def take(self, length: int) -> PieceBuffer:
        """An empty buffer of this length."""
        for data in reversed(self._spare):
            if data.length == length:
                self._spare.remove(data)
                data.clear()
                return data
        return PieceBuffer(length)

    def give_back(self, data: PieceBuffer) -> None:
        """Keep it for another; the one that lies longest goes when there are too many."""
        self._spare.append(data)
        del self._spare[: -self._most]
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._spare.clear)
