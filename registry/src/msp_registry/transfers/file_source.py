"""What brings a file's bytes: a function that reads a piece of it, and how its answer is collected."""

import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from msp_registry.failures import WrongBytes
from msp_registry.hub.selection import RemoteFile

ReadFile = Callable[[RemoteFile, int, int], AsyncGenerator[bytes, None]]
"""File, offset, length → exactly these bytes, in pieces. Raises JobFailure, and RangesIgnored."""

_SPARE = 2
"""Pieces whose memory is kept for later ones; it counts to nobody's share."""


class RangesIgnored(Exception):
    """The source gives this file only as a whole: it is to be read once, from front to back."""


async def read_piece(
    read: ReadFile, file: RemoteFile, offset: int, length: int, moved: Callable[[int], None]
) -> bytes:
    """One piece of a file, as a whole. `moved` hears of the bytes as they arrive."""
    async with aclosing(read(file, offset, length)) as stream:
        data = _Buffer(length)
        async for chunk in stream:
            data.add(chunk)
            moved(len(chunk))
    return data.checked(file, offset, length)


class FrontToBack:
    """One stream of a whole file, cut into pieces.

    A piece that is given back lends its memory to a later one: new memory costs more than copying into it.
    """

    def __init__(
        self, file: RemoteFile, stream: AsyncGenerator[bytes, None], moved: Callable[[int], None]
    ) -> None:
        self._file = file
        self._stream = stream
        self._moved = moved
        self._rest = memoryview(b"")
        self._lent: dict[int, _Buffer] = {}
        self._spare: list[_Buffer] = []

    async def take(self, offset: int, length: int) -> bytes:
        """The next piece, which must begin where the last one ended."""
        data = self._buffer(length)
        while data.size < length:
            if not self._rest:
                chunk = await anext(self._stream, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
                self._moved(len(chunk))
                continue
            self._rest = self._rest[data.add(self._rest[: length - data.size]) :]
        piece = data.checked(self._file, offset, length)
        self._lent[id(piece)] = data
        return piece

    def give_back(self, piece: bytes) -> None:
        """The caller needs a piece of `take` no more. Whoever still holds it keeps it as it is."""
        data = self._lent.pop(id(piece), None)
        if data is not None and len(self._spare) < _SPARE:
            self._spare.append(data)

    def _buffer(self, length: int) -> "_Buffer":
        while self._spare:
            data = self._spare.pop()
            if data.length == length:
                data.clear()
                return data
        return _Buffer(length)

    async def end(self) -> None:
        """Raises WrongBytes unless the stream ends here."""
        while not self._rest:
            chunk = await anext(self._stream, None)
            if chunk is None:
                return
            self._rest = memoryview(chunk)
        raise WrongBytes(
            f"{self._file.path}: more than the {self._file.size_bytes} bytes that were announced"
        )


class _Buffer:
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
        self._data.seek(0)
        self.size = 0

    def add(self, chunk: bytes | memoryview) -> int:
        self._data.write(chunk)
        self.size += len(chunk)
        return len(chunk)

    def checked(self, file: RemoteFile, offset: int, length: int) -> bytes:
        if self.size != length:
            raise WrongBytes(
                f"{file.path}: {self.size} bytes arrived at byte {offset}, {length} were asked for; "
                f"the file was announced with {file.size_bytes}"
            )
        return self._data.getvalue()
