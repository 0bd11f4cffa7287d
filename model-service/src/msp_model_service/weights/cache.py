"""The folder of fetched models that the workers of a host share.

    CACHE/org/name/COMMIT/...              the files of one snapshot, in their usual layout
    CACHE/org/name/COMMIT/.complete        written last: the manifest, and its SHA-256
    CACHE/org/name/COMMIT/.partial/...     files on their way, see `partial_file`
    CACHE/org/name/.refs/REVISION          the commit that a revision last meant
    CACHE/org/name/.COMMIT.filling         locked by whoever fills (exclusive) or checks (shared) the snapshot
    CACHE/org/name/.COMMIT.in-use          locked (shared) by every worker that fills or uses the snapshot
    CACHE/org/name/.COMMIT.last-used       its time is when a worker last took the snapshot, or let it go

A file gets its final name only after its hash was found right, and a snapshot counts only with its marker.
The two locks are apart because a bad file can be replaced while other workers run from the snapshot: they
keep the old file open. Whoever deletes a snapshot must hold `.in-use` exclusively.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from msp_common.contracts.models import Manifest, ManifestFile

VerifyMode = Literal["full", "size", "off"]

MARKER = ".complete"
PARTIAL = ".partial"
COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOCK_POLL_S = 0.2
_CHUNK_BYTES = 4 * 1024 * 1024


class UnsafeManifest(ValueError):
    """A manifest that must not touch the disk; the message names what in it is wrong."""


class Stopped(Exception):
    """The worker is ending; the work was given up."""


def check_manifest(manifest: Manifest) -> None:
    """Refuse names that would leave the snapshot's folder, and fields that are not what they seem to be.

    Raises UnsafeManifest.
    """
    if not COMMIT.fullmatch(manifest.commit):
        raise UnsafeManifest(f"commit {manifest.commit[:80]!r} is not 40 hex digits")
    folders: set[str] = set()
    for file in manifest.files:
        _check_path(file.path)
        folders.update(str(parent) for parent in PurePosixPath(file.path).parents)
        if file.size_bytes < 0 or not _SHA256.fullmatch(file.sha256):
            raise UnsafeManifest(f"{file.path!r} has size {file.size_bytes} and SHA-256 {file.sha256[:80]!r}")
    names = [file.path for file in manifest.files]
    if len(set(names)) != len(names):
        raise UnsafeManifest(f"{next(n for n in names if names.count(n) > 1)!r} is listed twice")
    if clash := folders.intersection(names):
        raise UnsafeManifest(f"{min(clash)!r} is both a file and a folder")


def _check_path(path: str) -> None:
    parts = path.split("/")
    fine = (
        path.isprintable()
        and "\\" not in path
        and all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in parts)
        and parts[0] not in (MARKER, PARTIAL)
    )
    if not fine:
        raise UnsafeManifest(f"{path[:200]!r} is no safe file name")


class _Marker(BaseModel):
    manifest_sha256: str
    manifest: Manifest


def manifest_sha256(manifest: Manifest) -> str:
    """SHA-256 of the manifest as canonical JSON."""
    text = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path, on_bytes: Callable[[int], None], stop: threading.Event) -> "hashlib._Hash":
    """SHA-256 of the bytes at `path`, fed onwards by the caller if more follow. Raises Stopped."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            if stop.is_set():
                raise Stopped
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest


class Lock:
    """A file lock that ends with the process at the latest. Also keeps threads of one process apart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, *, exclusive: bool, stop: threading.Event, on_wait: Callable[[], None]) -> None:
        """Wait for the lock; `on_wait` is told once if others hold it. Raises Stopped."""
        waited = False
        while not self.try_acquire(exclusive=exclusive):
            if not waited:
                waited = True
                on_wait()
            if stop.wait(_LOCK_POLL_S):
                raise Stopped

    def try_acquire(self, *, exclusive: bool) -> bool:
        """Take the lock unless others hold it; whether it was taken."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        """Let go; also safe when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class SnapshotFolder:
    """One snapshot in the cache."""

    def __init__(self, cache_dir: Path, repo_id: str, commit: str) -> None:
        self.repo = cache_dir.joinpath(*repo_id.split("/"))
        self.commit = commit
        self.path = self.repo / commit

    def file(self, file: ManifestFile) -> Path:
        """Where the finished file lies."""
        return self.path / file.path

    def partial(self, file: ManifestFile) -> Path:
        """Where the file lies on its way. Named by content, so that it fits the next manifest too."""
        return self.path / PARTIAL / file.sha256

    def in_use(self) -> Lock:
        """The lock that a running worker holds."""
        return Lock(self.repo / f".{self.commit}.in-use")

    def touch(self) -> None:
        """Note that the snapshot is being used now."""
        self._last_used.touch()

    def last_used(self) -> float:
        """When a worker last took it or let it go, in seconds since the epoch; else when it last changed."""
        for path in (self._last_used, self.path):
            try:
                return path.stat().st_mtime
            except FileNotFoundError:
                continue
        return 0.0

    def delete(self) -> None:
        """Delete it from the disk. The caller holds `in_use` exclusively.

        The marker goes first: a deletion that is cut short leaves nothing that looks whole. The locks stay,
        since others may be about to take them.
        """
        (self.path / MARKER).unlink(missing_ok=True)
        shutil.rmtree(self.path)
        self._last_used.unlink(missing_ok=True)

    @property
    def _last_used(self) -> Path:
        return self.repo / f".{self.commit}.last-used"

    @contextmanager
    def filling(
        self, *, exclusive: bool, stop: threading.Event, on_wait: Callable[[], None]
    ) -> Iterator[None]:
        """Hold the lock of those who fill (exclusive) or check (shared)."""
        lock = Lock(self.repo / f".{self.commit}.filling")
        lock.acquire(exclusive=exclusive, stop=stop, on_wait=on_wait)
        try:
            yield
        finally:
            lock.release()

    def manifest(self) -> Manifest | None:
        """The manifest that this folder was completed with; null while it is not complete."""
        try:
            marker = _Marker.model_validate_json((self.path / MARKER).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return marker.manifest if marker.manifest_sha256 == manifest_sha256(marker.manifest) else None

    def finish(self, manifest: Manifest) -> list[str]:
        """Mark the snapshot complete. Files that its manifest does not list are removed, and returned.

        An engine would otherwise load what an earlier manifest of the same commit held.
        """
        wanted = {file.path for file in manifest.files}
        strays = [
            str(path.relative_to(self.path))
            for path in sorted(self.path.rglob("*"))
            if (path.is_symlink() or not path.is_dir())
            and str(path.relative_to(self.path)) not in wanted | {MARKER}
        ]
        for stray in strays:
            (self.path / stray).unlink()
        (self.path / PARTIAL).rmdir()
        marker = _Marker(manifest_sha256=manifest_sha256(manifest), manifest=manifest)
        _write_whole(self.path / MARKER, marker.model_dump_json())
        return strays

    def is_right(
        self, file: ManifestFile, mode: VerifyMode, on_bytes: Callable[[int], None], stop: threading.Event
    ) -> bool:
        """Whether the finished file is what the manifest says, as far as `mode` looks."""
        path = self.file(file)
        if mode == "off":
            return True
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            return False
        return mode == "size" or hash_file(path, on_bytes, stop).hexdigest() == file.sha256


def write_ref(cache_dir: Path, repo_id: str, revision: str, commit: str) -> None:
    """Remember which commit a revision means, for a start without the registry."""
    path = _ref(cache_dir, repo_id, revision)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, commit)


def read_ref(cache_dir: Path, repo_id: str, revision: str) -> str | None:
    """The commit that the revision last meant; the revision itself if it is a commit."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        commit = _ref(cache_dir, repo_id, revision).read_text().strip()
    except FileNotFoundError:
        return None
    return commit if COMMIT.fullmatch(commit) else None


def _ref(cache_dir: Path, repo_id: str, revision: str) -> Path:
    return cache_dir.joinpath(*repo_id.split("/")) / ".refs" / quote(revision, safe="")


def _write_whole(path: Path, text: str) -> None:
    """Write so that readers see the old file or the new one, also after a power cut."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    with fresh.open("w") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())
    fresh.replace(path)
