"""What brings a file's bytes: a function that reads a piece of it, and how its answer is collected."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from msp_registry.failures import WrongBytes
from msp_registry.hub.selection import RemoteFile
from msp_registry.transfers.piece_memory import PieceBuffer, PieceMemory

ReadFile = Callable[[RemoteFile, int, int], AsyncGenerator[bytes, None]]
"""File, offset, length → exactly these bytes, in pieces. Raises JobFailure, and RangesIgnored."""


class RangesIgnored(Exception):
    """The source gives this file only as a whole: it is to be read once, from front to back."""


async def read_piece(
    read: ReadFile, file: RemoteFile, offset: int, length: int, moved: Callable[[int], None]
) -> bytes:
    """One piece of a file, as a whole. `moved` hears of the bytes as they arrive."""
    async with aclosing(read(file, offset, length)) as stream:
        data = PieceBuffer(length)
        async for chunk in stream:
            data.add(chunk)
            moved(len(chunk))
    return _checked(data, file, offset)


class FrontToBack:
    """One stream of a whole file, cut into pieces. A piece that is given back lends its memory to a later."""

    def __init__(
        self,
        file: RemoteFile,
        stream: AsyncGenerator[bytes, None],
        moved: Callable[[int], None],
        memory: PieceMemory,
    ) -> None:
        self._file = file
        self._stream = stream
        self._moved = moved
        self._memory = memory
        self._rest = memoryview(b"")
        self._lent: dict[int, PieceBuffer] = {}

    async def take(self, offset: int, length: int) -> bytes:
        """The next piece, which must begin where the last one ended."""
        data = self._memory.take(length)
        while data.size < length:
            if not self._rest:
                chunk = await anext(self._stream, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
                self._moved(len(chunk))
                continue
            self._rest = self._rest[data.add(self._rest[: length - data.size]) :]
        piece = _checked(data, self._file, offset)
        self._lent[id(piece)] = data
        return piece

    def give_back(self, piece: bytes) -> None:
        """The caller needs a piece of `take` no more. Whoever still holds it keeps it as it is."""
        data = self._lent.pop(id(piece), None)
        if data is not None:
            self._memory.give_back(data)

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


def _checked(data: PieceBuffer, file: RemoteFile, offset: int) -> bytes:
    if data.size != data.length:
        raise WrongBytes(
            f"{file.path}: {data.size} bytes arrived at byte {offset}, {data.length} were asked for; "
            f"the file was announced with {file.size_bytes}"
        )
    return data.value()
