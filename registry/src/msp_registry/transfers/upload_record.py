"""The note that a large file is on its way in parts, by which another process finds them."""

import logging
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from msp_common.snapshots import canonical_json
from msp_registry.stores.store import NoSuchObject, ObjectStore, Part, read_small

_MAX_RECORD_BYTES = 1 << 16

log = logging.getLogger(__name__)


class UploadRecord(BaseModel):
    """Which upload of the store holds the parts of a file, and how it is cut."""

    model_config = ConfigDict(frozen=True)

    path: str
    size_bytes: int
    part_bytes: int
    upload_id: str

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.size_bytes // self.part_bytes)

    def extent(self, number: int) -> tuple[int, int]:
        """Offset and length of a part; numbers begin at 1."""
        offset = (number - 1) * self.part_bytes
        return offset, min(self.part_bytes, self.size_bytes - offset)

    def whole(self, parts: Sequence[Part]) -> dict[int, Part]:
        """Those parts that have the size they must have, by number."""
        return {
            part.number: part
            for part in parts
            if 1 <= part.number <= self.count and part.size_bytes == self.extent(part.number)[1]
        }


async def read_record(store: ObjectStore, key: str) -> UploadRecord | None:
    """The record, if there is one that can be read. Raises StoreError when the store cannot tell."""
    try:
        data = await read_small(store, key, _MAX_RECORD_BYTES)
    except NoSuchObject:
        return None
    try:
        return UploadRecord.model_validate_json(data)
    except ValidationError as error:
        log.warning("%s is no record of an upload and is not used: %s", key, error.errors()[0]["msg"])
        return None


async def write_record(store: ObjectStore, key: str, record: UploadRecord) -> None:
    """Keep the record. Raises StoreError."""
    await store.put(key, canonical_json(record.model_dump()))


async def forget_upload(store: ObjectStore, object_key: str, record_key: str) -> None:
    """Abort the upload that the record names, if there is one, and remove the record. Raises StoreError."""
    record = await read_record(store, record_key)
    if record is not None:
        await store.abort_upload(object_key, record.upload_id)
    await store.delete(record_key)
