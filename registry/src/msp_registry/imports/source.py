"""What the importer needs of a place that files are taken from."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from msp_common.snapshots import MANIFEST_PATH, OWN_FOLDER
from msp_registry.failures import JobFailure

MAX_FILES = 100_000
"""In one snapshot; a model has at most some thousand."""

MAX_MANIFEST_BYTES = 32 << 20
"""Room for MAX_FILES files."""

# Left by version control, by download tools and by other registries; never part of a model.
SKIPPED_FOLDERS = frozenset({".git", ".cache", "__pycache__", OWN_FOLDER})


@dataclass(frozen=True)
class SourceFile:
    """A file of the source."""

    path: str
    """Relative to the source, with forward slashes."""
    size_bytes: int


class ImportSource(Protocol):
    """A folder, a tar, or a prefix of another S3 server. Every error is `refusal`, or says to try again."""

    @property
    def kind(self) -> str:
        """What the manifest calls the source."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def refusal(self) -> type[JobFailure]:
        """What is raised when the source cannot be imported."""

    async def scan(self) -> list[SourceFile]:
        """All files but those that tools leave behind, by path; at least one, with safe paths."""

    async def manifest(self) -> bytes | None:
        """The manifest of an exported snapshot, None where there is none. Only after `scan`."""

    def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Exactly these bytes of a scanned file, which must not have changed since."""


def check_manifest_size(size_bytes: int, refusal: type[JobFailure]) -> None:
    """Raises `refusal` for a manifest that is not worth reading."""
    if size_bytes > MAX_MANIFEST_BYTES:
        raise refusal(f"{MANIFEST_PATH} has {size_bytes} bytes; at most {MAX_MANIFEST_BYTES} are read")


def is_left_behind(path: str) -> bool:
    """Whether a file is no part of the model."""
    return not SKIPPED_FOLDERS.isdisjoint(path.split("/")[:-1])
