"""A folder that is to be imported, read without ever following it out of itself."""

import os
import stat
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from anyio import to_thread

from msp_common.snapshots import MANIFEST_PATH
from msp_registry.failures import BadFolder
from msp_registry.imports.local_reading import LocalBytes, local_bytes
from msp_registry.imports.source import MAX_FILES, SKIPPED_FOLDERS, SourceFile, check_manifest_size
from msp_registry.layout import UnsafePath, check_paths


class FolderNotAllowed(Exception):
    """A place outside those that may be imported from."""


def allowed_folder(folder: str, roots: Sequence[Path]) -> Path:
    """The folder or tar, links resolved. Raises FolderNotAllowed unless one of the roots contains it."""
    if not roots:
        raise FolderNotAllowed(
            "importing from folders is off; set REGISTRY_IMPORT_ROOTS to those that may be imported from"
        )
    if "\0" in folder or not os.path.isabs(folder):
        raise FolderNotAllowed(f"{folder[:200]!r} is no absolute path of a folder or tar")
    try:
        resolved = Path(folder).resolve()
        inside = any(resolved.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError) as error:
        raise FolderNotAllowed(f"{folder[:200]!r} cannot be read: {str(error)[:200]}") from None
    if not inside:
        raise FolderNotAllowed(
            f"{folder[:200]!r} is below none of REGISTRY_IMPORT_ROOTS="
            f"{os.pathsep.join(str(root) for root in roots)}"
        )
    return resolved


class LocalFolder:
    """An ImportSource."""

    kind = "folder"
    refusal = BadFolder

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, LocalBytes] = {}

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._folder)

    async def scan(self) -> list[SourceFile]:
        """Raises BadFolder for links that leave, devices, unsafe names, no file."""
        self._files = await to_thread.run_sync(_scan, self._folder)
        return [SourceFile(path, file.identity.size_bytes) for path, file in self._files.items()]

    async def manifest(self) -> bytes | None:
        """From `.registry/manifest.json`, which may be no link."""
        place = self._folder.resolve() / MANIFEST_PATH
        if not await to_thread.run_sync(os.path.lexists, place):
            return None
        file = await to_thread.run_sync(local_bytes, place, BadFolder)
        check_manifest_size(file.identity.size_bytes, self.refusal)
        return b"".join([chunk async for chunk in file.read(0, file.identity.size_bytes)])

    def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Raises BadFolder when the file changed, or became a link."""
        return self._files[path].read(offset, length)


def _scan(folder: Path) -> dict[str, LocalBytes]:
    if not folder.is_dir():
        raise BadFolder(f"{folder} is no folder that the registry can read")
    root = folder.resolve()
    found: dict[str, LocalBytes] = {}

    def refuse(error: OSError) -> None:
        raise BadFolder(f"{error.filename} cannot be read: {error.strerror}") from error

    for here, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS)
        for name in folders:
            if Path(here, name).is_symlink():
                raise BadFolder(f"{Path(here, name)} is a symbolic link to a folder; copy the files instead")
        for name in names:
            place = Path(here, name)
            found[place.relative_to(root).as_posix()] = _local_file(root, place)
        if len(found) > MAX_FILES:
            raise BadFolder(f"{folder} has more than {MAX_FILES} files")
    if not found:
        raise BadFolder(f"{folder} has no files")
    try:
        check_paths(found)
    except UnsafePath as error:
        raise BadFolder(f"{folder}: {error}") from None
    return dict(sorted(found.items()))


def _local_file(root: Path, place: Path) -> LocalBytes:
    try:
        resolved = place.resolve(strict=True)
        found = resolved.stat()
    except (OSError, RuntimeError) as error:
        raise BadFolder(f"{place} cannot be read: {error}") from None
    if not resolved.is_relative_to(root):
        raise BadFolder(
            f"{place} is a symbolic link that leaves the folder; "
            "copy the folder with its links followed (cp -rL) and import the copy"
        )
    if not stat.S_ISREG(found.st_mode):
        raise BadFolder(f"{place} is no regular file")
    return local_bytes(resolved, BadFolder)
