"""Whether a snapshot has room, asked before its first byte is fetched."""

from collections.abc import Sequence
from dataclasses import dataclass

from msp_registry.catalogue import Catalogue
from msp_registry.failures import NotEnoughSpace, QuotaExceeded
from msp_registry.hub.selection import RemoteFile
from msp_registry.layout import file_key, upload_key
from msp_registry.stores.store import NoSuchUpload, ObjectStore
from msp_registry.transfers.upload_record import read_record


@dataclass(frozen=True)
class Need:
    """What the store lacks of a snapshot."""

    new_bytes: int
    """Of files that are not there as objects; they will count against the quota."""
    missing_bytes: int
    """The same without the parts of them that are stored already; they need room on the disk."""


async def check_room(
    store: ObjectStore,
    catalogue: Catalogue,
    repo_id: str,
    commit: str,
    files: Sequence[RemoteFile],
    *,
    quota_bytes: int | None,
) -> None:
    """Raises QuotaExceeded and NotEnoughSpace, each with what is missing and what there is; StoreError."""
    need = await need_of(store, repo_id, commit, files)
    if quota_bytes is not None:
        check_quota(quota_bytes, stored_bytes=await catalogue.stored_bytes(), new_bytes=need.new_bytes)
    check_free(await store.free_bytes(), missing_bytes=need.missing_bytes)


async def need_of(store: ObjectStore, repo_id: str, commit: str, files: Sequence[RemoteFile]) -> Need:
    """By one listing of the snapshot, and the parts of those uploads that were broken off."""
    sizes = {stat.key: stat.size_bytes async for stat in store.list(f"{repo_id}/{commit}/")}
    new_bytes = part_bytes = 0
    for file in files:
        if sizes.get(file_key(repo_id, commit, file.path)) == file.size_bytes:
            continue
        new_bytes += file.size_bytes
        if upload_key(repo_id, commit, file.path) in sizes:
            part_bytes += await _stored_parts_bytes(store, repo_id, commit, file)
    return Need(new_bytes, new_bytes - part_bytes)


def check_quota(quota_bytes: int | None, *, stored_bytes: int, new_bytes: int) -> None:
    """Raises QuotaExceeded with both numbers."""
    if quota_bytes is not None and stored_bytes + new_bytes > quota_bytes:
        raise QuotaExceeded(
            f"{new_bytes} bytes do not fit: {stored_bytes} of REGISTRY_QUOTA_BYTES={quota_bytes} are used; "
            "delete a model or raise the quota"
        )


def check_free(free_bytes: int | None, *, missing_bytes: int) -> None:
    """Raises NotEnoughSpace with both numbers; a store that cannot tell is believed to have room."""
    if free_bytes is not None and missing_bytes > free_bytes:
        raise NotEnoughSpace(
            f"{missing_bytes} bytes are missing and the store has {free_bytes} bytes free; "
            "delete a model, collect garbage (POST /gc), or enlarge the store"
        )


async def _stored_parts_bytes(store: ObjectStore, repo_id: str, commit: str, file: RemoteFile) -> int:
    record = await read_record(store, upload_key(repo_id, commit, file.path))
    if record is None or record.size_bytes != file.size_bytes:
        return 0
    try:
        parts = await store.parts(file_key(repo_id, commit, file.path), record.upload_id)
    except NoSuchUpload:
        return 0
    return sum(part.size_bytes for part in record.whole(parts).values())
