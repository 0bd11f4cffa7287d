"""Files that are carried in parts, for drives that take no large ones, read as the files that they are."""

import io
import re
from collections.abc import Sequence
from typing import BinaryIO, Literal

from msp_cli.archive_source import Source, SourceFile
from msp_common.contracts.models import Manifest

_PART = re.compile(r"(.+)\.part-([0-9]{3,})")


class JoinedParts:
    """A Source over another, in which NAME.part-000, NAME.part-001, ... are the file NAME.

    Only where the manifest lists NAME: elsewhere such a name is the file's own.
    """

    kind: Literal["folder", "tar"]

    def __init__(self, source: Source) -> None:
        self.kind = source.kind
        self._source = source
        self._parts: dict[str, list[SourceFile]] = {}

    def files(self) -> list[SourceFile]:
        """Whole files only. Raises Unsuitable."""
        files = self._source.files()
        manifest = self._source.manifest()
        self._parts = _parts_of(manifest, files) if manifest is not None else {}
        joined = {part.path for parts in self._parts.values() for part in parts}
        whole = [file for file in files if file.path not in joined]
        whole += [SourceFile(path, sum(p.size_bytes for p in ps)) for path, ps in self._parts.items()]
        return sorted(whole, key=lambda file: file.path) if self._parts else whole

    def manifest(self) -> Manifest | None:
        """That of the other source."""
        return self._source.manifest()

    def open(self, file: SourceFile) -> BinaryIO:
        """One part after the other. Raises Unsuitable."""
        parts = self._parts.get(file.path)
        return self._source.open(file) if parts is None else io.BufferedReader(_Joined(self._source, parts))


class _Joined(io.RawIOBase):
    """Parts as one file that is read once."""

    def __init__(self, source: Source, parts: Sequence[SourceFile]) -> None:
        self._source = source
        self._waiting = list(parts)
        self._open: BinaryIO | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, into: "memoryview[int] | bytearray") -> int:  # type: ignore[override]
        """As the parent's."""
        while True:
            if self._open is None:
                if not self._waiting:
                    return 0
                self._open = self._source.open(self._waiting.pop(0))
            chunk = self._open.read(len(into))
            if chunk:
                into[: len(chunk)] = chunk
                return len(chunk)
            self._open.close()
            self._open = None

    def close(self) -> None:
        """As the parent's."""
        if self._open is not None:
            self._open.close()
        super().close()


def _parts_of(manifest: Manifest, files: Sequence[SourceFile]) -> dict[str, list[SourceFile]]:
    listed = {file.path for file in manifest.files}
    found: dict[str, dict[int, SourceFile]] = {}
    for file in files:
        match = _PART.fullmatch(file.path)
        if match is not None and file.path not in listed and match[1] in listed:
            found.setdefault(match[1], {})[int(match[2])] = file
    # A gap is left as it is: the sizes are compared with the manifest's.
    return {path: [parts[number] for number in sorted(parts)] for path, parts in sorted(found.items())}
