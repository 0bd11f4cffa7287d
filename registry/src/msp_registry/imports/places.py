"""From where may be imported, and what a request's `source` names there."""

from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from msp_registry.failures import BadFolder
from msp_registry.imports.local_folder import FolderNotAllowed, LocalFolder, allowed_folder
from msp_registry.imports.s3_prefix import OtherS3
from msp_registry.imports.source import ImportSource
from msp_registry.imports.tar_file import TarFile

S3_SCHEME = "s3://"


class ImportPlaces:
    """Folders below the roots, and one other S3 server, if there is one."""

    def __init__(self, roots: Sequence[Path], s3: OtherS3 | None = None) -> None:
        self._roots = roots
        self._s3 = s3

    def check(self, source: str) -> str:
        """The source, links in its path resolved; does not look into it.

        Raises FolderNotAllowed for one that may not be imported from.
        """
        if not source.startswith(S3_SCHEME):
            return str(allowed_folder(source, self._roots))
        if self._s3 is None:
            raise FolderNotAllowed(
                "importing from S3 is off; set REGISTRY_IMPORT_S3_ENDPOINT to the server to import from"
            )
        return source

    async def open(self, source: str) -> ImportSource:
        """The folder, tar or S3 prefix. Raises BadFolder and BadArchive."""
        try:
            allowed = self.check(source)
        except FolderNotAllowed as error:
            raise BadFolder(str(error)) from None
        if self._s3 is not None and source.startswith(S3_SCHEME):
            return self._s3.prefix(source)
        return await to_thread.run_sync(_local, Path(allowed))


def _local(place: Path) -> ImportSource:
    try:
        if place.is_dir():
            return LocalFolder(place)
        if place.exists():
            return TarFile(place)
    except OSError as error:
        raise BadFolder(f"{str(place)[:200]!r} cannot be read: {error.strerror}") from None
    raise BadFolder(f"{place} is no folder and no tar that the registry can read")
