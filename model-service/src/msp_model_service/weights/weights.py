"""A model's files, from the registry into the host's cache, verified before anything loads them."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msp_common.contracts.models import ManifestFile, ModelInfo
from msp_model_service.weights.auto_download import Bringer
from msp_model_service.weights.cache import (
    PARTIAL,
    Lock,
    SnapshotFolder,
    UnsafeManifest,
    VerifyMode,
    check_manifest,
    read_ref,
    write_ref,
)
from msp_model_service.weights.cache_room import CacheRoom
from msp_model_service.weights.checking import Checker
from msp_model_service.weights.fetch_errors import NotHeld, NotYet, Refused, SourceAway
from msp_model_service.weights.fetching import RANGE_BYTES, rounds
from msp_model_service.weights.model_source import ModelSource
from msp_model_service.weights.partial_file import PartialFile
from msp_model_service.weights.range_download import RangeDownload, Wanted

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
    touch: Callable[[], None] = lambda: None
    """Notes that it was used until now."""

    def release(self) -> None:
        """Allow others to delete it."""
        try:
            self.touch()
        except OSError as error:
            log.warning("the time of last use could not be noted: %s", error)
        self.in_use.release()


class Weights(Protocol):
    """Gets snapshots. Calls block."""

    def fetch(self, model_id: str, revision: str, on_progress: OnProgress, stop: threading.Event) -> Snapshot:
        """The snapshot that `revision` names. Raises NotYet, Refused or Stopped."""


class CachedWeights:
    """Weights from a ModelSource through the shared cache.

    `bring`, if there is one, is asked to get into the registry what it does not hold.
    """

    def __init__(
        self,
        source: ModelSource,
        room: CacheRoom,
        checker: Checker,
        bring: Bringer | None = None,
        range_bytes: int = RANGE_BYTES,
    ) -> None:
        self._source = source
        self._room = room
        self._cache_dir = room.cache_dir
        self._checker = checker
        self._bring = bring
        self._range_bytes = range_bytes

    def fetch(self, model_id: str, revision: str, on_progress: OnProgress, stop: threading.Event) -> Snapshot:
        """See Weights. Without the registry a complete copy in the cache is used, and `note` says so."""
        try:
            try:
                info = self._resolved(model_id, revision, on_progress, stop)
            except SourceAway as away:
                return self._cached_alone(model_id, revision, away, on_progress, stop)
            return self._fetched(model_id, revision, info, on_progress, stop)
        except OSError as error:
            message = f"the cache folder {self._cache_dir} cannot be used: {error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NotYet(message) from error
            raise Refused(f"{message} (running as user {os.getuid()})") from error

    def _resolved(
        self, model_id: str, revision: str, on_progress: OnProgress, stop: threading.Event
    ) -> ModelInfo:
        try:
            return self._source.resolve(model_id, revision)
        except NotHeld:
            if self._bring is None:
                raise
        self._bring.bring(model_id, revision, on_progress, stop)
        return self._source.resolve(model_id, revision)

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
            _Filling(
                self._source, self._room, folder, info, self._checker, self._range_bytes, on_progress, stop
            ).run()
            write_ref(self._cache_dir, model_id, revision, info.manifest.commit)
            folder.touch()
        except BaseException:
            in_use.release()
            raise
        return Snapshot(folder.path, info.manifest.commit, in_use, touch=folder.touch)

    def _cached_alone(
        self,
        model_id: str,
        revision: str,
        away: SourceAway,
        on_progress: OnProgress,
        stop: threading.Event,
    ) -> Snapshot:
        commit = read_ref(self._cache_dir, model_id, revision)
        nothing = f"{away}; the cache holds no complete copy of {model_id} at {revision}"
        if commit is None:
            raise SourceAway(nothing) from away
        folder = SnapshotFolder(self._cache_dir, model_id, commit)
        if folder.manifest() is None:
            raise SourceAway(nothing) from away
        in_use = folder.in_use()
        in_use.acquire(exclusive=False, stop=stop, on_wait=lambda: log.info("waiting for a deletion to end"))
        try:
            manifest = folder.manifest()  # once more: what was waited for may have been its deletion
            if manifest is None:
                raise SourceAway(nothing) from away
            bad = self._checker.wrong_files(folder, manifest, manifest.files, on_progress, stop)
            if bad:
                raise SourceAway(
                    f"{away}; of the copy in the cache {_names(bad)} must be fetched again"
                ) from away
            folder.touch()
        except BaseException:
            in_use.release()
            raise
        note = f"{away}; serving the copy in the cache, commit {commit}"
        log.warning("%s", note)
        return Snapshot(folder.path, commit, in_use, note, folder.touch)


class _Filling:
    """Bringing one snapshot folder to what its manifest says."""

    def __init__(
        self,
        source: ModelSource,
        room: CacheRoom,
        folder: SnapshotFolder,
        info: ModelInfo,
        checker: Checker,
        range_bytes: int,
        on_progress: OnProgress,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._room = room
        self._folder = folder
        self._info = info
        self._manifest = info.manifest
        self._checker = checker
        self._range_bytes = range_bytes
        self._on_progress = on_progress
        self._stop = stop
        self._done_bytes = 0
        self._telling = threading.Lock()

    def run(self) -> None:
        """Check what is there under a shared lock; fetch what is wrong or missing under an exclusive one."""
        suspects: Sequence[ManifestFile] = self._manifest.files
        with self._folder.filling(exclusive=False, stop=self._stop, on_wait=self._say_waiting):
            if self._folder.manifest() == self._manifest:
                suspects = self._wrong(suspects)
                if not suspects:
                    return
                log.warning("%s in the cache failed verification: fetching again", _names(suspects))
        with self._folder.filling(exclusive=True, stop=self._stop, on_wait=self._say_waiting):
            # Another worker may have filled it in between; without a marker nothing on disk is trusted.
            complete = self._folder.manifest() == self._manifest
            missing = self._wrong(suspects, trusted=complete)
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

    def _wrong(self, files: Sequence[ManifestFile], *, trusted: bool = True) -> list[ManifestFile]:
        mode: VerifyMode | None = None if trusted else "full"
        return self._checker.wrong_files(
            self._folder, self._manifest, files, self._on_progress, self._stop, mode
        )

    def _fetch(self, missing: Sequence[ManifestFile]) -> None:
        self._refuse_quarantined(missing)
        (self._folder.path / PARTIAL).mkdir(parents=True, exist_ok=True)
        expected = sum(file.size_bytes for file in missing)
        self._room.make(self._folder, expected - sum(self._allocated(file) for file in missing))
        self._done_bytes = self._manifest.total_bytes - expected
        source = self._source.files(self._info)
        for files in rounds(missing):
            wanted = [
                Wanted(
                    file,
                    PartialFile(self._folder.partial(file), file.size_bytes, self._range_bytes),
                    self._folder.file(file),
                )
                for file in files
            ]
            RangeDownload(source, wanted, self._tell, self._stop).run()

    def _refuse_quarantined(self, missing: Sequence[ManifestFile]) -> None:
        held_back = [file for file in missing if file.path in self._info.quarantined]
        if held_back:
            raise NotYet(
                f"the registry does not serve {_names(held_back)} of {self._info.id}: its copy is damaged "
                f"({self._info.quarantined[held_back[0].path]}); `msp models verify {self._info.id}` repairs "
                "it online, a new import does so offline"
            )

    def _allocated(self, file: ManifestFile) -> int:
        try:
            return min(file.size_bytes, self._folder.partial(file).stat().st_blocks * 512)
        except FileNotFoundError:
            return 0

    def _tell(self, path: str, count: int) -> None:
        with self._telling:
            self._done_bytes += count
            self._on_progress(f"fetching {path}", self._done_bytes, self._manifest.total_bytes)


def _names(files: Sequence[ManifestFile]) -> str:
    shown = ", ".join(file.path for file in files[:5])
    return f"{shown} and {len(files) - 5} more" if len(files) > 5 else shown
