"""An exported model as it arrives: every byte compared with the manifest that comes first."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from msp_common.contracts.models import Manifest, ManifestFile
from msp_common.snapshots import MANIFEST_PATH, OWN_FOLDER

CHUNK_BYTES = 1 << 20
_MANIFEST_LIMIT_BYTES = 64 << 20


class BadArchive(Exception):
    """What arrived is not the snapshot that its manifest describes."""


class Incoming(io.RawIOBase):
    """Chunks of a stream as a file that is read once; a copy of them goes to `copy`."""

    def __init__(self, chunks: Iterator[bytes], copy: BinaryIO | None = None) -> None:
        self._chunks = chunks
        self._copy = copy
        self._buffer = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, into: "memoryview[int] | bytearray") -> int:  # type: ignore[override]
        """As the parent's."""
        while not self._buffer:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            if self._copy is not None:
                self._copy.write(chunk)
            self._buffer = memoryview(chunk)
        count = min(len(into), len(self._buffer))
        into[:count] = self._buffer[:count]
        self._buffer = self._buffer[count:]
        return count

    def drain(self) -> None:
        """Read what is left, so that the copy is whole."""
        while self.read(CHUNK_BYTES):
            pass


def receive(stream: Incoming, commit: str, folder: Path | None, received: Callable[[int], None]) -> Manifest:
    """The manifest of a tar stream whose files are all there and right; with `folder` they are written to it.

    The folder must be new: no links can be in the way then, and none are made. Raises BadArchive and OSError.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK_BYTES) as tar:
            manifest, data = _manifest(tar)
            if manifest.commit != commit:
                raise BadArchive(f"commit {commit} was asked for, and {manifest.commit} came")
            if folder is not None:
                write(folder, MANIFEST_PATH, iter([data]))
            _files(tar, manifest, folder, received)
    except (tarfile.TarError, EOFError) as error:
        raise BadArchive(f"the tar is broken: {error}") from None
    return manifest


def _manifest(tar: tarfile.TarFile) -> tuple[Manifest, bytes]:
    member = tar.next()
    if member is None or member.name != MANIFEST_PATH or member.size > _MANIFEST_LIMIT_BYTES:
        raise BadArchive(f"the archive does not begin with {MANIFEST_PATH}")
    data = b"".join(_content(tar, member))
    try:
        return Manifest.model_validate_json(data), data
    except ValidationError as error:
        raise BadArchive(f"{MANIFEST_PATH} is not understood: {error}") from None


def _files(
    tar: tarfile.TarFile, manifest: Manifest, folder: Path | None, received: Callable[[int], None]
) -> None:
    missing = {file.path: file for file in manifest.files}
    while (member := tar.next()) is not None:
        if member.isdir():
            continue
        expected = missing.pop(safe(member.name), None)
        if expected is None:
            raise BadArchive(f"{member.name!r} is not in the manifest, or comes twice")
        if not member.isreg() or member.issparse() or member.size != expected.size_bytes:
            raise BadArchive(f"{member.name!r} is no file of {expected.size_bytes} bytes")
        content = compared(_content(tar, member), expected, received)
        if folder is None:
            for _ in content:
                pass
        else:
            write(folder, member.name, content)
    if missing:
        raise BadArchive(f"{len(missing)} files are missing, the first is {min(missing)!r}")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    opened = tar.extractfile(member)
    if opened is None:
        raise BadArchive(f"{member.name!r} is no file")
    with opened:
        while chunk := opened.read(CHUNK_BYTES):
            yield chunk


def compared(
    content: Iterator[bytes], expected: ManifestFile, received: Callable[[int], None]
) -> Iterator[bytes]:
    """The content; raises BadArchive at its end when it is not what was expected."""
    sha256 = hashlib.sha256()
    for chunk in content:
        sha256.update(chunk)
        received(len(chunk))
        yield chunk
    if sha256.hexdigest() != expected.sha256:
        raise BadArchive(
            f"{expected.path}: sha256 is {sha256.hexdigest()}, the manifest says {expected.sha256}"
        )


def safe(path: str) -> str:
    """The path itself. Raises BadArchive for one that could leave the folder."""
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise BadArchive(f"{path!r} could leave the folder")
    if parts[0] == OWN_FOLDER:
        raise BadArchive(f"{path!r}: {OWN_FOLDER} is the registry's own folder")
    return path


def write(folder: Path, path: str, content: Iterator[bytes]) -> None:
    """A new file, on the disk when this returns."""
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        for chunk in content:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
