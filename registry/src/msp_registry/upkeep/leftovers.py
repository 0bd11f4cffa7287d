"""What lies in the store under each snapshot, published or not: what a collection decides by."""

from dataclasses import dataclass, field

from msp_common.snapshots import OWN_FOLDER
from msp_registry.layout import Location, file_key, locate
from msp_registry.stores.store import NoSuchUpload, ObjectStat, ObjectStore
from msp_registry.transfers.upload_record import read_record

_RECORDS = f"{OWN_FOLDER}/uploads/"


@dataclass(frozen=True)
class BrokenOff:
    """An upload that was begun and not completed."""

    key: str
    upload_id: str


@dataclass
class Remains:
    """All that is stored of one snapshot."""

    repo_id: str
    commit: str
    objects: int = 0
    bytes: int = 0
    touched_at: float = 0.0
    """When the youngest of it came."""
    published_at: float | None = None
    uploads: dict[BrokenOff, float] = field(default_factory=dict)
    """And when each was begun."""
    records: dict[str, float] = field(default_factory=dict)
    """Keys of the notes of uploads, and when each was written."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.repo_id}@{self.commit}"

    def add(self, place: Location, stat: ObjectStat) -> None:
        """Take note of one key."""
        self.objects += 1
        self.bytes += stat.size_bytes
        self.touched_at = max(self.touched_at, stat.modified_at)
        if place.is_manifest:
            self.published_at = stat.modified_at
        elif place.path is not None and place.path.startswith(_RECORDS):
            self.records[stat.key] = stat.modified_at


async def survey(store: ObjectStore, prefix: str = "") -> list[Remains]:
    """Every snapshot of which anything is stored below a prefix, by name. Raises StoreError.

    Broken-off uploads are those that the store lists, and those that were noted: not every store can list.
    """
    found: dict[tuple[str, str], Remains] = {}

    def remains(place: Location | None) -> Remains | None:
        if place is None or place.commit is None:
            return None
        key = place.repo_id, place.commit
        return found.setdefault(key, Remains(*key))

    async for stat in store.list(prefix):
        place = locate(stat.key)
        held = remains(place)
        if place is not None and held is not None:
            held.add(place, stat)
    for held in found.values():
        for key, noted_at in held.records.items():
            record = await read_record(store, key)
            if record is not None:
                upload = BrokenOff(file_key(held.repo_id, held.commit, record.path), record.upload_id)
                held.uploads[upload] = noted_at
    async for pending in store.uploads(prefix):
        held = remains(locate(pending.key))
        if held is not None:
            upload = BrokenOff(pending.key, pending.upload_id)
            held.uploads[upload] = max(pending.begun_at, held.uploads.get(upload, 0.0))
            held.touched_at = max(held.touched_at, pending.begun_at)
    return [found[key] for key in sorted(found)]


async def bytes_of(store: ObjectStore, upload: BrokenOff) -> int:
    """What aborting an upload frees. Raises StoreError."""
    try:
        return sum(part.size_bytes for part in await store.parts(upload.key, upload.upload_id))
    except NoSuchUpload:
        return 0
