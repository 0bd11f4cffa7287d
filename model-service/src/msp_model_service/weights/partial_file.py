"""A file on its way, filled in any order, and the note beside it that says which ranges are whole.

    .partial/SHA256         the bytes, at their final offsets; allocated in full from the start
    .partial/SHA256.ranges  first line: size and range length; then `INDEX CRC32` for each whole range

A line is written after the range's last byte. It carries the range's checksum, so that neither a line that a
kill cut short nor bytes that a power cut lost can pass for a whole range; hence nothing is synced until the
file is finished.
"""

import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

from msp_model_service.weights.cache import Stopped
from msp_model_service.weights.fetching import Span, spans_of

NOTE_SUFFIX = ".ranges"
_CHUNK_BYTES = 4 * 1024 * 1024
_CLOSED = -1


class PartialFile:
    """One such file. `open` it first; then all calls may come from several threads."""

    def __init__(self, path: Path, size_bytes: int, range_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.spans = spans_of(size_bytes, range_bytes)
        self.whole: set[int] = set()
        """Indexes of the ranges that are on disk as they came."""
        self._path = path
        self._note = path.with_name(path.name + NOTE_SUFFIX)
        self._header = f"{size_bytes} {range_bytes}"
        self._lock = threading.Lock()
        self._data = _CLOSED

    def open(self, on_bytes: Callable[[int], None], stop: threading.Event) -> None:
        """Take up what an earlier process left: `whole` then says what it was; or begin anew.

        What is left is read once, and `on_bytes` told of what proved whole. Raises Stopped, and OSError when
        the disk has no room for the file.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._data = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        noted = self._noted() if os.fstat(self._data).st_size == self.size_bytes else {}
        self.whole = set()
        for index, crc in noted.items():
            if self._crc_of(self.spans[index], stop) == crc:
                self.whole.add(index)
                on_bytes(self.spans[index].end - self.spans[index].start)
        if not self.whole:
            os.ftruncate(self._data, 0)
            if self.size_bytes:
                os.posix_fallocate(self._data, 0, self.size_bytes)
        # Written anew: an append behind a line that was cut short would be part of that line.
        fresh = self._note.with_name(self._note.name + ".new")
        kept = (f"{index} {noted[index]:08x}" for index in sorted(self.whole))
        fresh.write_text("".join(f"{line}\n" for line in (self._header, *kept)))
        fresh.replace(self._note)

    def write(self, data: bytes, offset: int) -> None:
        """Put bytes in their place. They do not count before `settle`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._data, view, offset)
            view, offset = view[written:], offset + written

    def settle(self, index: int, crc: int) -> bool:
        """All bytes of the range are written; `crc` is their CRC-32. False when it was whole before."""
        with self._lock:
            if index in self.whole:
                return False
            with self._note.open("ab", buffering=0) as note:
                note.write(f"{index} {crc:08x}\n".encode())
            self.whole.add(index)
            return True

    def each_chunk(self, span: Span, stop: threading.Event, on_chunk: Callable[[memoryview], None]) -> None:
        """Read a range back, from memory as a rule. Raises Stopped."""
        buffer = memoryview(bytearray(min(_CHUNK_BYTES, span.end - span.start)))
        at = span.start
        while at < span.end:
            if stop.is_set():
                raise Stopped
            read = os.preadv(self._data, [buffer[: min(len(buffer), span.end - at)]], at)
            if not read:
                raise OSError(f"{self._path} ended at {at}: somebody else has shortened it")
            on_chunk(buffer[:read])
            at += read

    def finish(self, target: Path) -> None:
        """Give the file its name, safe against a power cut; the note goes."""
        os.fsync(self._data)
        self.close()
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)
        self._note.unlink()

    def discard(self) -> None:
        """Throw everything away; `open` begins anew."""
        self.close()
        self._note.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; what is whole stays."""
        if self._data != _CLOSED:
            os.close(self._data)
        self._data = _CLOSED

    def _noted(self) -> dict[int, int]:
        try:
            lines = self._note.read_text(errors="replace").split("\n")
        except FileNotFoundError:
            return {}
        if lines[0] != self._header:
            return {}
        noted = {}
        for line in lines[1:-1]:  # behind the last line's end there is nothing, or a line cut short
            index, _, crc = line.partition(" ")
            if index.isdecimal() and int(index) < len(self.spans) and len(crc) == 8:
                try:
                    noted[int(index)] = int(crc, 16)
                except ValueError:
                    continue  # no checksum, so the range does not count
        return noted

    def _crc_of(self, span: Span, stop: threading.Event) -> int:
        crc = 0

        def add(chunk: memoryview) -> None:
            nonlocal crc
            crc = zlib.crc32(chunk, crc)

        self.each_chunk(span, stop, add)
        return crc
