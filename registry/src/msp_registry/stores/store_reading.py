"""Reading a snapshot's files back from the store, as the inspection asks for them."""

from msp_registry.inspection.inspection import ReadRange
from msp_registry.layout import file_key
from msp_registry.stores.store import ObjectStore


def reader_of(store: ObjectStore, repo_id: str, commit: str) -> ReadRange:
    """Ranges of a snapshot's files, read back from the store."""

    async def read(path: str, offset: int, length: int) -> bytes:
        data = bytearray()
        async for chunk in store.get(file_key(repo_id, commit, path), offset, length):
            data += chunk
        return bytes(data)

    return read
