"""Files that do not come because the store has them already, in a snapshot of the same or another model."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Protocol

from msp_common.contracts.models import ManifestFile
from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel
from msp_registry.hub.selection import RemoteFile
from msp_registry.layout import file_key
from msp_registry.stores.store import ObjectStore
from msp_registry.transfers.file_source import ReadFile
from msp_registry.upkeep.quarantine import fault_in


class BadFiles(Protocol):
    """The quarantine, as far as it is asked which files are good."""

    async def of(self, repo_id: str, commit: str) -> Mapping[str, str]:
        """Path of each bad file of a snapshot, and what is wrong with it."""


async def held_files(
    catalogue: Catalogue, quarantine: BadFiles, repo_id: str, wanted: Iterable[ManifestFile]
) -> dict[str, str]:
    """Path of each wanted file that a published snapshot has, and the key of an object with its bytes.

    By sha256 and size, as manifests tell them: whoever takes the bytes must still hash them. The model's own
    snapshots are asked first. Quarantined files do not count. Raises StoreError.
    """
    missing = {file.path: (file.sha256, file.size_bytes) for file in wanted}
    found: dict[str, str] = {}
    published = (await catalogue.listing()).published
    for model in sorted(published, key=lambda other: (other != repo_id, other)):
        for commit in published[model].newest_first():
            if not missing:
                return found
            keys = await _good_files(catalogue, quarantine, model, commit)
            here = {path: keys[content] for path, content in missing.items() if content in keys}
            found |= here
            missing = {path: content for path, content in missing.items() if path not in here}
    return found


def reader_of_keys(store: ObjectStore, keys: Mapping[str, str]) -> ReadFile:
    """Reads each file from the object whose key is given for its path."""

    def read(file: RemoteFile, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        return store.get(keys[file.path], offset, length)

    return read


async def _good_files(
    catalogue: Catalogue, quarantine: BadFiles, repo_id: str, commit: str
) -> dict[tuple[str, int], str]:
    try:
        manifest = await catalogue.manifest(repo_id, commit)
    except (NoSuchModel, DamagedManifest):
        return {}  # deleted since it was listed, or of no use
    bad = await quarantine.of(repo_id, commit)
    return {
        (file.sha256, file.size_bytes): file_key(repo_id, commit, file.path)
        for file in manifest.files
        if fault_in(bad, file.path) is None
    }
