"""A model on this machine, a folder or a tar, as a list of files that are read one after another."""

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from pydantic import ValidationError

from msp_common.contracts.models import Manifest
from msp_common.snapshots import MANIFEST_PATH, OWN_FOLDER

# As the registry's own import from a folder: left by version control and by download tools.
_SKIPPED_FOLDERS = frozenset({".git", ".cache", "__pycache__", OWN_FOLDER})

_MANIFEST_LIMIT_BYTES = 64 << 20


class Unsuitable(Exception):
    """What cannot be sent, and what to do."""


@dataclass(frozen=True)
class SourceFile:
    """One regular file."""

    path: str
    """Below the model, with forward slashes."""
    size_bytes: int


class Source(Protocol):
    """Where the files are. Every method raises Unsuitable."""

    kind: Literal["folder", "tar"]

    def files(self) -> list[SourceFile]:
        """All files, in the order in which they are best read; the manifest is not one of them."""

    def manifest(self) -> Manifest | None:
        """The manifest that an exported snapshot carries."""

    def open(self, file: SourceFile) -> BinaryIO:
        """Its bytes; the caller closes it."""


@contextmanager
def opened(place: Path) -> Iterator[Source]:
    """The folder or tar. Raises Unsuitable."""
    if place.is_dir():
        yield FolderSource(place)
        return
    try:
        with tarfile.open(place, "r:*") as tar:
            yield TarSource(place, tar)
    except FileNotFoundError:
        raise Unsuitable(f"{place} is not on this machine; without --upload it is looked for there") from None
    except tarfile.TarError as error:
        raise Unsuitable(f"{place} is neither a folder nor a whole tar: {error}") from None
    except OSError as error:
        raise Unsuitable(f"{place} cannot be read: {error.strerror or error}") from None


class FolderSource:
    """A folder; links are followed as long as they stay inside it."""

    kind: Literal["folder", "tar"] = "folder"

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()

    def files(self) -> list[SourceFile]:
        """By path."""
        found = []

        def refuse(error: OSError) -> None:
            raise Unsuitable(f"{error.filename} cannot be read: {error.strerror}") from error

        for here, folders, names in os.walk(self._root, onerror=refuse):
            folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
            for name in folders:
                if Path(here, name).is_symlink():
                    raise Unsuitable(
                        f"{Path(here, name)} is a symbolic link to a folder; copy the files instead"
                    )
            found += [self._file(Path(here, name)) for name in names]
        if not found and (self._root / MANIFEST_PATH).exists():
            return []  # an export that leaves every file to the store
        return _checked(str(self._root), sorted(found, key=lambda f: f.path))

    def manifest(self) -> Manifest | None:
        """From `.registry/manifest.json`."""
        path = self._root / MANIFEST_PATH
        if not path.exists():
            return None
        with self._open(path) as file:
            return _manifest(str(path), file)

    def open(self, file: SourceFile) -> BinaryIO:
        """Resolved anew, so that a link made since the listing is noticed."""
        return self._open(self._root / file.path)

    def _open(self, path: Path) -> BinaryIO:
        try:
            return self._inside(path).open("rb")
        except OSError as error:
            raise Unsuitable(f"{path} cannot be read: {error.strerror}") from error

    def _file(self, path: Path) -> SourceFile:
        try:
            found = self._inside(path).stat()
        except OSError as error:
            raise Unsuitable(f"{path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise Unsuitable(f"{path} is no regular file")
        return SourceFile(path.relative_to(self._root).as_posix(), found.st_size)

    def _inside(self, path: Path) -> Path:
        resolved = path.resolve(strict=True)
        if not resolved.is_relative_to(self._root):
            raise Unsuitable(
                f"{path} is a symbolic link that leaves the folder; "
                "copy the folder with its links followed (cp -rL) and send the copy"
            )
        return resolved


class TarSource:
    """A tar, compressed or not; its files are read in its own order."""

    kind: Literal["folder", "tar"] = "tar"

    def __init__(self, place: Path, tar: tarfile.TarFile) -> None:
        self._place = place
        self._tar = tar
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise Unsuitable(
                    f"{place}: {name!r} is a link or a device; only files and folders can be sent"
                )
            if name in self._members:
                raise Unsuitable(f"{place}: {name!r} is in it twice")
            self._members[name] = member

    def files(self) -> list[SourceFile]:
        """In the tar's order."""
        listed = [
            SourceFile(name, member.size)
            for name, member in self._members.items()
            if not _SKIPPED_FOLDERS.intersection(name.split("/")[:-1])
        ]
        return _checked(str(self._place), listed)

    def manifest(self) -> Manifest | None:
        """From the member `.registry/manifest.json`."""
        if MANIFEST_PATH not in self._members:
            return None
        with self._open(MANIFEST_PATH) as file:
            return _manifest(f"{self._place}: {MANIFEST_PATH}", file)

    def open(self, file: SourceFile) -> BinaryIO:
        """The member."""
        return self._open(file.path)

    def _open(self, name: str) -> BinaryIO:
        opened = self._tar.extractfile(self._members[name])
        if opened is None:
            raise Unsuitable(f"{self._place}: {name!r} is no file")
        return opened  # type: ignore[return-value]


def _checked(place: str, files: list[SourceFile]) -> list[SourceFile]:
    if not files:
        raise Unsuitable(f"{place} has no files")
    for file in files:
        if not file.path.isprintable() or any(part in ("", ".", "..") for part in file.path.split("/")):
            raise Unsuitable(f"{place}: {file.path!r} is no name that a model's file can have")
    return files


def _manifest(place: str, file: BinaryIO) -> Manifest:
    data = file.read(_MANIFEST_LIMIT_BYTES + 1)
    if len(data) > _MANIFEST_LIMIT_BYTES:
        raise Unsuitable(f"{place} is larger than {_MANIFEST_LIMIT_BYTES} bytes; it is no manifest")
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise Unsuitable(
            f"{place} is no manifest: {error}; delete it to send the files as they are"
        ) from None
