"""Reading a folder that is to be imported, without ever following it out of itself."""

import os
import stat
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from msp_registry.failures import BadFolder
from msp_registry.layout import OWN, UnsafePath, check_paths
from msp_registry.store import CHUNK_BYTES

# Left by version control, by download tools and by other registries; never part of a model.
SKIPPED_FOLDERS = frozenset({".git", ".cache", "__pycache__", OWN})


class FolderNotAllowed(Exception):
    """A folder outside those that may be imported from."""


@dataclass(frozen=True)
class LocalFile:
    """One regular file of the folder."""

    path: str
    """Relative to the folder, with forward slashes."""
    place: Path
    """Where its bytes are, links resolved."""
    size_bytes: int


def allowed_folder(folder: str, roots: Sequence[Path]) -> Path:
    """The folder, links resolved. Raises FolderNotAllowed unless one of the roots contains it."""
    if not roots:
        raise FolderNotAllowed(
            "importing from folders is off; set REGISTRY_IMPORT_ROOTS to those that may be imported from"
        )
    if "\0" in folder or not os.path.isabs(folder):
        raise FolderNotAllowed(f"{folder[:200]!r} is no absolute path of a folder")
    try:
        resolved = Path(folder).resolve()
        inside = any(resolved.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError) as error:
        raise FolderNotAllowed(f"{folder[:200]!r} cannot be read: {error}") from None
    if not inside:
        raise FolderNotAllowed(
            f"{folder[:200]!r} is below none of REGISTRY_IMPORT_ROOTS="
            f"{os.pathsep.join(str(root) for root in roots)}"
        )
    return resolved


def scan(folder: Path) -> list[LocalFile]:
    """All regular files, by path. Raises BadFolder for links that leave, devices, unsafe names, no file."""
    if not folder.is_dir():
        raise BadFolder(f"{folder} is no folder that the registry can read")
    root = folder.resolve()
    found = []

    def refuse(error: OSError) -> None:
        raise BadFolder(f"{error.filename} cannot be read: {error.strerror}") from error

    for here, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS)
        for name in folders:
            if Path(here, name).is_symlink():
                raise BadFolder(f"{Path(here, name)} is a symbolic link to a folder; copy the files instead")
        for name in names:
            found.append(_local_file(root, Path(here, name)))
    if not found:
        raise BadFolder(f"{folder} has no files")
    try:
        check_paths(file.path for file in found)
    except UnsafePath as error:
        raise BadFolder(f"{folder}: {error}") from None
    return sorted(found, key=lambda f: f.path)


async def read(file: LocalFile) -> AsyncGenerator[bytes, None]:
    """The file's bytes. Raises BadFolder when it cannot be read, or became a link since the scan."""
    handle = await to_thread.run_sync(_open, file)
    try:
        while chunk := await to_thread.run_sync(os.read, handle, CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise BadFolder(f"{file.place} cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


async def read_range(file: LocalFile, offset: int, length: int) -> bytes:
    """A part of the file, shorter where the file ends. Raises BadFolder."""

    def part() -> bytes:
        handle = _open(file)
        try:
            return os.pread(handle, length, offset)
        finally:
            os.close(handle)

    return await to_thread.run_sync(part)


def _open(file: LocalFile) -> int:
    try:
        return os.open(file.place, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise BadFolder(f"{file.place} cannot be read: {error.strerror}") from error


def _local_file(root: Path, place: Path) -> LocalFile:
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
    return LocalFile(place.relative_to(root).as_posix(), resolved, found.st_size)
