"""Part of a model as a folder: its whole manifest, and those files that the other side does not have."""

from collections.abc import Callable, Collection
from pathlib import Path

from msp_cli import archive_receiving
from msp_cli.archive_receiving import BadArchive
from msp_cli.registry_archives import ArchiveApi
from msp_common.contracts.models import Manifest, ManifestFile
from msp_common.snapshots import MANIFEST_PATH, canonical_json


def files_to_carry(manifest: Manifest, left_out: Collection[str]) -> list[ManifestFile]:
    """The files whose sha256 is not among those that are left out."""
    return [file for file in manifest.files if file.sha256 not in left_out]


def export(
    api: ArchiveApi,
    manifest: Manifest,
    files: Collection[ManifestFile],
    folder: Path,
    received: Callable[[int], None],
) -> None:
    """Write the manifest and these of its files into a new folder, every byte compared.

    Raises BadArchive, ServiceAnsweredBadly and OSError.
    """
    head = canonical_json(manifest.model_dump(mode="json"))
    archive_receiving.write(folder, MANIFEST_PATH, iter([head]))
    for file in files:
        with api.file(manifest.repo_id, manifest.commit, archive_receiving.safe(file.path)) as chunks:
            archive_receiving.write(folder, file.path, archive_receiving.compared(chunks, file, received))


def hashes_in(text: str) -> frozenset[str]:
    """The hashes of a list, one on a line. Raises BadArchive for anything else."""
    lines = text.split()
    for line in lines:
        if len(line) != 64 or not set(line) <= set("0123456789abcdef"):
            raise BadArchive(f"{line[:80]!r} is no sha256")
    return frozenset(lines)
