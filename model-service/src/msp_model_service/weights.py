"""A model's files, from the registry into the host's cache, verified before anything loads them."""

import errno
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msp_common.contracts.models import Manifest, ManifestFile, ModelInfo
from msp_model_service.cache import (
    PARTIAL,
    Lock,
    SnapshotFolder,
    Stopped,
    UnsafeManifest,
    VerifyMode,
    check_manifest,
    hash_file,
    read_ref,
    write_ref,
)
from msp_model_service.model_source import ModelSource, NotYet, Refused, SourceAway

log = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int], None]
"""Told what goes on, bytes done and bytes in all."""


@dataclass(frozen=True)
class Snapshot:
    """A complete, verified snapshot on disk, held against eviction until `release`."""

    folder: Path
    commit: str
    in_use: Lock
    note: str | None = None
    """What an operator should know of how it came: that the registry was not asked, for one."""

    def release(self) -> None:
        """Allow others to delete it."""
        self.in_use.release()


class Weights(Protocol):
    """Gets snapshots. Calls block."""

    def fetch(self, model_id: str, revision: str, on_progress: OnProgress, stop: threading.Event) -> Snapshot:
        """The snapshot that `revision` names. Raises NotYet, Refused or Stopped."""


class WrongBytes(Exception):
    """What arrived is not what the manifest says."""


class CachedWeights:
    """Weights from a ModelSource through the shared cache."""

    def __init__(self, source: ModelSource, cache_dir: Path, verify: VerifyMode) -> None:
        self._source = source
        self._cache_dir = cache_dir
        self._verify = verify

    def fetch(self, model_id: str, revision: str, on_progress: OnProgress, stop: threading.Event) -> Snapshot:
        """See Weights. Without the registry a complete copy in the cache is used, and `note` says so."""
        try:
            try:
                info = self._source.resolve(model_id, revision)
            except SourceAway as away:
                return self._cached_alone(model_id, revision, away, on_progress, stop)
            return self._fetched(model_id, revision, info, on_progress, stop)
        except OSError as error:
            message = f"the cache folder {self._cache_dir} cannot be used: {error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NotYet(message) from error
            raise Refused(f"{message} (running as user {os.getuid()})") from error

    def _fetched(
        self, model_id: str, revision: str, info: ModelInfo, on_progress: OnProgress, stop: threading.Event
    ) -> Snapshot:
        try:
            check_manifest(info.manifest)
            if info.commit != info.manifest.commit:
                raise UnsafeManifest(f"it is of commit {info.manifest.commit}, not {info.commit[:80]!r}")
        except UnsafeManifest as error:
            raise Refused(f"the manifest of {model_id} at {revision} is refused: {error}") from error
        folder = SnapshotFolder(self._cache_dir, model_id, info.manifest.commit)
        in_use = folder.in_use()
        in_use.acquire(exclusive=False, stop=stop, on_wait=lambda: log.info("waiting for a deletion to end"))
        try:
            _Filling(self._source, folder, info, self._verify, on_progress, stop).run()
            write_ref(self._cache_dir, model_id, revision, info.manifest.commit)
        except BaseException:
            in_use.release()
            raise
        return Snapshot(folder.path, info.manifest.commit, in_use)

    def _cached_alone(
        self,
        model_id: str,
        revision: str,
        away: SourceAway,
        on_progress: OnProgress,
        stop: threading.Event,
    ) -> Snapshot:
        commit = read_ref(self._cache_dir, model_id, revision)
        folder = SnapshotFolder(self._cache_dir, model_id, commit) if commit else None
        manifest = folder.manifest() if folder else None
        if commit is None or folder is None or manifest is None:
            raise SourceAway(
                f"{away}; the cache holds no complete copy of {model_id} at {revision}"
            ) from away
        in_use = folder.in_use()
        in_use.acquire(exclusive=False, stop=stop, on_wait=lambda: log.info("waiting for a deletion to end"))
        try:
            bad = wrong_files(folder, manifest, manifest.files, self._verify, on_progress, stop)
            if bad:
                raise SourceAway(
                    f"{away}; of the copy in the cache {_names(bad)} must be fetched again"
                ) from away
        except BaseException:
            in_use.release()
            raise
        note = f"{away}; serving the copy in the cache, commit {commit}"
        log.warning("%s", note)
        return Snapshot(folder.path, commit, in_use, note)


def wrong_files(
    folder: SnapshotFolder,
    manifest: Manifest,
    files: Sequence[ManifestFile],
    mode: VerifyMode,
    on_progress: OnProgress,
    stop: threading.Event,
) -> list[ManifestFile]:
    """Those of `files` that are not on disk as the manifest says."""
    checked = 0

    def count(n: int) -> None:
        nonlocal checked
        checked += n
        on_progress("verifying files in the cache", checked, manifest.total_bytes)

    return [file for file in files if not folder.is_right(file, mode, count, stop)]


class _Filling:
    """Bringing one snapshot folder to what its manifest says."""

    def __init__(
        self,
        source: ModelSource,
        folder: SnapshotFolder,
        info: ModelInfo,
        verify: VerifyMode,
        on_progress: OnProgress,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._folder = folder
        self._info = info
        self._manifest = info.manifest
        self._verify = verify
        self._on_progress = on_progress
        self._stop = stop
        self._done_bytes = 0

    def run(self) -> None:
        """Check what is there under a shared lock; fetch what is wrong or missing under an exclusive one."""
        suspects: Sequence[ManifestFile] = self._manifest.files
        with self._folder.filling(exclusive=False, stop=self._stop, on_wait=self._say_waiting):
            if self._folder.manifest() == self._manifest:
                suspects = self._wrong(suspects, self._verify)
                if not suspects:
                    return
                log.warning("%s in the cache failed verification: fetching again", _names(suspects))
        with self._folder.filling(exclusive=True, stop=self._stop, on_wait=self._say_waiting):
            # Another worker may have filled it in between; without a marker nothing on disk is trusted.
            complete = self._folder.manifest() == self._manifest
            missing = self._wrong(suspects, self._verify if complete else "full")
            if complete and not missing:
                return
            self._fetch(missing)
            strays = self._folder.finish(self._manifest)
            if strays:
                log.info("removed from the snapshot what its manifest does not list: %s", ", ".join(strays))

    def _say_waiting(self) -> None:
        log.info("another worker of this host has the same snapshot in hand; waiting for it")
        self._on_progress(
            "waiting for another worker that has the same files in hand", 0, self._manifest.total_bytes
        )

    def _wrong(self, files: Sequence[ManifestFile], mode: VerifyMode) -> list[ManifestFile]:
        return wrong_files(self._folder, self._manifest, files, mode, self._on_progress, self._stop)

    def _fetch(self, missing: Sequence[ManifestFile]) -> None:
        partials = [self._folder.partial(file) for file in missing]
        (self._folder.path / PARTIAL).mkdir(parents=True, exist_ok=True)
        have = sum(p.stat().st_size for p in partials if p.is_file())
        need = sum(f.size_bytes for f in missing) - have
        free = shutil.disk_usage(self._folder.path).free
        if need > free:
            raise NotYet(
                f"{need} bytes are still to be fetched, but only {free} are free in {self._folder.repo}"
            )
        self._done_bytes = self._manifest.total_bytes - sum(f.size_bytes for f in missing)
        for file in missing:
            self._fetch_verified(file)
            target = self._folder.file(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._folder.partial(file).replace(target)
            self._done_bytes += file.size_bytes

    def _fetch_verified(self, file: ManifestFile) -> None:
        """Twice at most: the first mistake may come from a damaged partial file or from the way here."""
        try:
            self._download(file)
        except WrongBytes as error:
            log.warning("%s; fetching it once more from the start", error)
            try:
                self._download(file)
            except WrongBytes as again:
                raise Refused(
                    f"{again}; what the registry holds is damaged: delete and bring {self._info.id} again"
                ) from again

    def _download(self, file: ManifestFile) -> None:
        """Into the partial file, going on where it ends. Raises WrongBytes; the partial file is then gone."""
        partial = self._folder.partial(file)
        partial.touch()
        offset = partial.stat().st_size
        if offset > file.size_bytes:
            os.truncate(partial, 0)
            offset = 0
        digest = hash_file(partial, lambda n: None, self._stop)
        with partial.open("r+b") as target:
            if offset < file.size_bytes:
                with self._source.open(self._info, file, offset) as body:
                    if body.start != offset:
                        offset, digest = body.start, hashlib.sha256()
                        target.truncate(offset)
                    target.seek(offset)
                    for chunk in body.chunks:
                        if self._stop.is_set():
                            raise Stopped
                        offset += len(chunk)
                        if offset > file.size_bytes:
                            break
                        target.write(chunk)
                        digest.update(chunk)
                        self._on_progress(
                            f"fetching {file.path}", self._done_bytes + offset, self._manifest.total_bytes
                        )
            target.flush()
            os.fsync(target.fileno())
        if offset < file.size_bytes:
            raise NotYet(f"{file.path} ended after {offset} of {file.size_bytes} bytes")
        found = "more bytes" if offset > file.size_bytes else f"SHA-256 {digest.hexdigest()}"
        if offset > file.size_bytes or digest.hexdigest() != file.sha256:
            partial.unlink()
            raise WrongBytes(
                f"{file.path} has {found}; its manifest says {file.size_bytes} bytes, SHA-256 {file.sha256}"
            )


def _names(files: Sequence[ManifestFile]) -> str:
    shown = ", ".join(file.path for file in files[:5])
    return f"{shown} and {len(files) - 5} more" if len(files) > 5 else shown
