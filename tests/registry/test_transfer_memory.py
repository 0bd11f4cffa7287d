"""How much memory a transfer really takes: the window, and hardly more."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncGenerator

import pytest

from msp_registry.hub.selection import RemoteFile
from msp_registry.stores.store import Part
from msp_registry.transfers.transfer import Transfer
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress

MIB = 1 << 20
PIECE = bytes(range(256)) * 256
SIZE = 96 * MIB
WINDOW = 12 * MIB
PART = 2 * MIB


class Forgetting(MemoryStore):
    """Keeps of the parts only that there were some, and is slower than the source."""

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        assert type(data) is bytes
        for _ in range(50):
            await asyncio.sleep(0)
        self.part_puts += 1
        return Part(number, len(data), f"etag-{number}")

    async def complete_upload(self, key: str, upload_id: str, parts: object) -> None:
        del self.pending[upload_id]


async def read(file: RemoteFile, offset: int, length: int) -> AsyncGenerator[bytes, None]:
    for _ in range(length // len(PIECE)):
        await asyncio.sleep(0)
        yield PIECE


@pytest.mark.parametrize("sequential", [False, True])
async def test_a_file_many_times_the_window_is_never_copied(sequential: bool) -> None:
    sha256 = hashlib.sha256(PIECE * (SIZE // len(PIECE))).hexdigest()
    files = [RemoteFile(name, SIZE, git_sha1=None, sha256=sha256) for name in ("a", "b")]
    store = Forgetting()
    transfer = Transfer(store, window_bytes=WINDOW, part_bytes_of=lambda size: PART)
    tracemalloc.start()
    try:
        await transfer.store_all(
            "org/tiny", "c0ffee" * 6 + "abcd", files, read, ToldProgress(), sequential=sequential
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert store.part_puts == 2 * SIZE // PART
    # The thread that has hashed a part may let go of it a moment after the transfer: one part for each file.
    assert WINDOW // 2 < peak < WINDOW + 2 * PART + MIB
