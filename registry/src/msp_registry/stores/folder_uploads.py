"""Uploads in parts into a folder: a sparse file of the final size, and beside it which parts are whole.

    .unfinished/uploads/{id}/upload.json    key, size_bytes, part_bytes, begun_at
    .unfinished/uploads/{id}/data           becomes the object
    .unfinished/uploads/{id}/parts          one slot for each part: number, size, tag

A slot is written only after its part's bytes have reached the disk, and is emptied, on the disk, before they
are overwritten. So a kill or a power cut can lose a slot, and the part is fetched again, but none can make a
torn part count.
"""

import json
import os
import re
import shutil
import struct
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from msp_registry.stores.folder_places import FolderPlaces, make_folders, sync_folder, write_at
from msp_registry.stores.store import NoSuchUpload, Part, PendingUpload, StoreError

_SLOT = struct.Struct("<IQI")
"""Sixteen bytes at a multiple of sixteen: within one sector, which disks write whole or not at all."""

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class _Upload:
    key: str
    size_bytes: int
    part_bytes: int
    begun_at: float

    @property
    def count(self) -> int:
        return -(-self.size_bytes // self.part_bytes)

    def length_of(self, number: int) -> int:
        return min(self.part_bytes, self.size_bytes - (number - 1) * self.part_bytes)


class FolderUploads:
    """The uploads of a folder store. Everything here blocks, and raises OSError beside StoreErrors."""

    def __init__(self, places: FolderPlaces) -> None:
        self._places = places

    def begin(self, key: str, size_bytes: int, part_bytes: int) -> str:
        """The id. Only a whole upload gets a name that counts."""
        self._places.of(key)
        upload_id = uuid.uuid4().hex
        making = self._places.uploads / f"making-{upload_id}"
        make_folders(making)
        try:
            upload = _Upload(key, size_bytes, part_bytes, time.time())
            _write(making / "data", b"", size_bytes)
            _write(making / "parts", b"", upload.count * _SLOT.size)
            _write(making / "upload.json", json.dumps(asdict(upload)).encode())
            sync_folder(making)
            making.rename(self._places.uploads / upload_id)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        sync_folder(self._places.uploads)
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        """Write it at its place and wait for the disk. Two puts of one number must not overlap."""
        folder, upload = self._find(key, upload_id)
        if not 1 <= number <= upload.count or len(data) != upload.length_of(number):
            raise StoreError(
                f"part {number} of {len(data)} bytes does not fit the upload of {key}: {upload.size_bytes} "
                f"bytes in parts of {upload.part_bytes}"
            )
        tag = os.urandom(4)
        with _Opened(folder / "parts", key, upload_id) as slots:
            place = (number - 1) * _SLOT.size
            if any(os.pread(slots, _SLOT.size, place)):
                write_at(slots, bytes(_SLOT.size), place)
                os.fdatasync(slots)
            with _Opened(folder / "data", key, upload_id) as file:
                write_at(file, data, (number - 1) * upload.part_bytes)
                os.fdatasync(file)
            write_at(slots, _SLOT.pack(number, len(data), int.from_bytes(tag, "big")), place)
        return Part(number, len(data), tag.hex())

    def parts(self, key: str, upload_id: str) -> list[Part]:
        """Those whose slots are whole."""
        folder, upload = self._find(key, upload_id)
        return _whole_parts(folder, upload, upload_id)

    def complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Rename the file to its key."""
        folder, upload = self._find(key, upload_id)
        stored = _whole_parts(folder, upload, upload_id)
        if len(stored) != upload.count or list(parts) != stored:
            raise StoreError(
                f"the upload of {key} cannot be completed: {len(parts)} parts given, {len(stored)} stored as "
                f"given or otherwise, {upload.count} needed"
            )
        with _Opened(folder / "data", key, upload_id) as file:
            os.fsync(file)
        self._places.publish(folder / "data", key)
        shutil.rmtree(folder, ignore_errors=True)

    def abort(self, key: str, upload_id: str) -> None:
        """Remove all of it."""
        try:
            folder, _ = self._find(key, upload_id)
        except NoSuchUpload:
            return
        # First without its name, so that half of it left by a kill is never taken for an upload.
        gone = folder.with_name(f"gone-{upload_id}")
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    def pending(self, prefix: str) -> list[PendingUpload]:
        """All below the prefix, the oldest first."""
        found = []
        for folder in self._folders():
            upload = _read(folder)
            if upload is not None and upload.key.startswith(prefix):
                found.append(PendingUpload(upload.key, folder.name, upload.begun_at))
        return sorted(found, key=lambda u: u.begun_at)

    def clear_remains(self) -> None:
        """Remove what a kill left of uploads that were being begun, completed or aborted."""
        if not self._places.uploads.is_dir():
            return
        for entry in self._places.uploads.iterdir():
            if not _ID.fullmatch(entry.name) or _read(entry) is None:
                shutil.rmtree(entry, ignore_errors=True)

    def _folders(self) -> list[Path]:
        if not self._places.uploads.is_dir():
            return []
        return [entry for entry in self._places.uploads.iterdir() if _ID.fullmatch(entry.name)]

    def _find(self, key: str, upload_id: str) -> tuple[Path, _Upload]:
        self._places.of(key)
        folder = self._places.uploads / upload_id if _ID.fullmatch(upload_id) else None
        upload = _read(folder) if folder else None
        if folder is None or upload is None or upload.key != key:
            raise _no_such(key, upload_id)
        return folder, upload


class _Opened:
    """A file's handle for reading and writing; a file that is gone means that the upload is."""

    def __init__(self, path: Path, key: str, upload_id: str) -> None:
        self._path, self._key, self._upload_id = path, key, upload_id

    def __enter__(self) -> int:
        try:
            self._handle = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            raise _no_such(self._key, self._upload_id) from None
        return self._handle

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _no_such(key: str, upload_id: str) -> NoSuchUpload:
    return NoSuchUpload(f"no upload {upload_id[:100]!r} for {key}")


def _read(folder: Path) -> _Upload | None:
    """None for what is no whole upload: also one that a kill left renamed but not yet cleared away."""
    try:
        upload = _Upload(**json.loads((folder / "upload.json").read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    return upload if (folder / "data").exists() else None


def _whole_parts(folder: Path, upload: _Upload, upload_id: str) -> list[Part]:
    try:
        slots = (folder / "parts").read_bytes()
    except FileNotFoundError:
        raise _no_such(upload.key, upload_id) from None
    found = []
    for number in range(1, upload.count + 1):
        told, size, tag = _SLOT.unpack_from(slots, (number - 1) * _SLOT.size)
        if (told, size) == (number, upload.length_of(number)):
            found.append(Part(number, size, f"{tag:08x}"))
    return found


def _write(path: Path, data: bytes, size_bytes: int | None = None) -> None:
    """A new file on the disk, of this size without its bytes taking room."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        write_at(handle, data, 0)
        if size_bytes is not None:
            os.ftruncate(handle, size_bytes)
        os.fsync(handle)
    finally:
        os.close(handle)
