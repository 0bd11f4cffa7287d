"""A tar as it arrives: member after member, never more in memory than a chunk."""

from collections.abc import AsyncGenerator, AsyncIterator

from msp_registry.archives.tar_headers import BLOCK_BYTES, Extended, Member, TarHeaders, padded
from msp_registry.failures import BadArchive

# tar pads to whole records, usually of 10 KiB; what is longer is no padding.
_MAX_END_BYTES = 1 << 20


class TarStream:
    """Reads a stream once, from front to back. All errors are BadArchive, and what the stream raises."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._held = memoryview(b"")
        self._data_left = 0
        self._padding = 0
        self._headers = TarHeaders()

    async def next_member(self) -> Member | None:
        """The next file or folder; None once the tar has ended and nothing but padding came after.

        Data of the member before that was not read is passed over.
        """
        async for _ in self.data():
            pass
        await self._exactly(self._padding)
        self._padding = 0
        while True:
            step = self._headers.read(await self._exactly(BLOCK_BYTES))
            if isinstance(step, Extended):
                data = await self._exactly(padded(step.size_bytes))
                self._headers.extend(step, data[: step.size_bytes])
                continue
            if step is None:
                await self._only_padding()
            else:
                self._data_left = step.size_bytes
                self._padding = padded(step.size_bytes) - step.size_bytes
            return step

    async def data(self) -> AsyncGenerator[bytes, None]:
        """The current member's bytes that were not read yet."""
        while self._data_left:
            piece = await self._some(self._data_left)
            self._data_left -= len(piece)
            yield piece

    async def _some(self, at_most: int) -> bytes:
        while not self._held:
            try:
                chunk = await anext(self._stream)
            except StopAsyncIteration:
                raise BadArchive("the tar is cut short: it ends inside a member or without its end") from None
            if 0 < len(chunk) <= at_most:
                return chunk  # as most are, in the middle of a file: nothing is copied
            self._held = memoryview(chunk)
        piece, self._held = self._held[:at_most], self._held[at_most:]
        return bytes(piece)

    async def _exactly(self, size_bytes: int) -> bytes:
        data = bytearray()
        while len(data) < size_bytes:
            data += await self._some(size_bytes - len(data))
        return bytes(data)

    async def _only_padding(self) -> None:
        rest = bytes(self._held)
        self._held = memoryview(b"")
        seen = 0
        while True:
            seen += len(rest)
            if seen > _MAX_END_BYTES or rest.count(0) != len(rest):
                raise BadArchive("more than padding comes after the end of the tar")
            try:
                rest = await anext(self._stream)
            except StopAsyncIteration:
                return
