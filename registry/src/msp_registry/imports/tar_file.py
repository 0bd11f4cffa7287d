"""A tar on a disk that the registry can read: indexed once by its headers, its members read by offset."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from msp_common.snapshots import MANIFEST_PATH
from msp_registry.archives.tar_headers import BLOCK_BYTES, Extended, TarHeaders, padded
from msp_registry.failures import BadArchive
from msp_registry.imports.local_reading import LocalBytes, local_bytes
from msp_registry.imports.source import SourceFile, check_manifest_size, is_left_behind
from msp_registry.layout import UnsafePath, check_paths

# What compressed files begin with, and what unpacks them.
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"\x04\x22\x4d\x18": "unlz4",
    b"PK\x03\x04": "unzip",
}


@dataclass(frozen=True)
class _Span:
    """Where a member's bytes are in the tar."""

    offset: int
    size_bytes: int


class TarFile:
    """An ImportSource."""

    kind = "tar"
    refusal = BadArchive

    def __init__(self, place: Path) -> None:
        """`place` is absolute and without links."""
        self._place = place
        self._tar: LocalBytes | None = None
        self._members: dict[str, _Span] = {}

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._place)

    async def scan(self) -> list[SourceFile]:
        """Raises BadArchive for a compressed or cut tar, links, unsafe names, no file."""
        self._tar = await to_thread.run_sync(local_bytes, self._place, BadArchive)
        self._members = await to_thread.run_sync(_index, self._tar)
        files = {p: span for p, span in sorted(self._members.items()) if not is_left_behind(p)}
        if not files:
            raise BadArchive(f"{self._place} has no files")
        try:
            check_paths(files)
        except UnsafePath as error:
            raise BadArchive(f"{self._place}: {error}") from None
        return [SourceFile(path, span.size_bytes) for path, span in files.items()]

    async def manifest(self) -> bytes | None:
        """From the member `.registry/manifest.json`."""
        span = self._members.get(MANIFEST_PATH)
        if span is None:
            return None
        check_manifest_size(span.size_bytes, self.refusal)
        return b"".join([chunk async for chunk in self.read(MANIFEST_PATH, 0, span.size_bytes)])

    def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Raises BadArchive when the tar changed."""
        if self._tar is None:
            raise ValueError("the tar must be scanned before it is read")
        return self._tar.read(self._members[path].offset + offset, length)


def _index(tar: LocalBytes) -> dict[str, _Span]:
    handle = tar.open()
    try:
        start = os.pread(handle, BLOCK_BYTES, 0)
        for magic, remedy in _COMPRESSED.items():
            if start.startswith(magic):
                raise BadArchive(
                    f"{tar.place} is compressed, and only plain tars can be read piece by piece; "
                    f"unpack it first ({remedy}) and import the tar or the folder"
                )
        return _members(handle, tar)
    except OSError as error:
        raise BadArchive(f"{tar.place} cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


def _members(handle: int, tar: LocalBytes) -> dict[str, _Span]:
    headers = TarHeaders()
    found: dict[str, _Span] = {}
    at = 0

    def take(size_bytes: int) -> bytes:
        nonlocal at
        data = os.pread(handle, size_bytes, at)
        if len(data) < size_bytes:
            raise BadArchive(f"{tar.place} is cut short; copy it again")
        at += size_bytes
        return data

    while (step := headers.read(take(BLOCK_BYTES))) is not None:
        if isinstance(step, Extended):
            headers.extend(step, take(padded(step.size_bytes))[: step.size_bytes])
            continue
        if not step.is_folder:
            if step.path in found:
                raise BadArchive(f"{tar.place} holds {step.path!r} twice")
            found[step.path] = _Span(at, step.size_bytes)
        at += padded(step.size_bytes)
        if at > tar.identity.size_bytes:
            raise BadArchive(f"{tar.place} is cut short inside {step.path!r}; copy it again")
    return found
