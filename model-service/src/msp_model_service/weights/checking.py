"""What of a snapshot in the cache is not what its manifest says."""

import threading
from collections.abc import Callable, Sequence

from msp_common.contracts.models import Manifest, ManifestFile
from msp_model_service.weights.cache import SnapshotFolder, VerifyMode


class Checker:
    """Checks files by one VERIFY_ON_LOAD mode, and hashes none twice that nobody has touched since.

    A worker that waits looks again every few seconds, and must not read a whole model each time. What another
    process did to a file shows in its inode, size or time.
    """

    def __init__(self, mode: VerifyMode) -> None:
        self.mode = mode
        self._right: set[tuple[str, int, int, int]] = set()

    def wrong_files(
        self,
        folder: SnapshotFolder,
        manifest: Manifest,
        files: Sequence[ManifestFile],
        on_progress: Callable[[str, int, int], None],
        stop: threading.Event,
        mode: VerifyMode | None = None,
    ) -> list[ManifestFile]:
        """Those of `files` that are not on disk as the manifest says. Raises Stopped."""
        checked = 0

        def count(n: int) -> None:
            nonlocal checked
            checked += n
            on_progress("verifying files in the cache", checked, manifest.total_bytes)

        mode = mode or self.mode
        return [file for file in files if not self._is_right(folder, file, mode, count, stop)]

    def _is_right(
        self,
        folder: SnapshotFolder,
        file: ManifestFile,
        mode: VerifyMode,
        on_bytes: Callable[[int], None],
        stop: threading.Event,
    ) -> bool:
        if mode != "full":
            return folder.is_right(file, mode, on_bytes, stop)
        before = self._seen(folder, file)
        if before in self._right:
            on_bytes(file.size_bytes)
            return True
        right = folder.is_right(file, mode, on_bytes, stop)
        if right and before is not None:
            self._right.add(before)
        return right

    def _seen(self, folder: SnapshotFolder, file: ManifestFile) -> tuple[str, int, int, int] | None:
        try:
            stat = folder.file(file).stat()
        except OSError:
            return None
        return (file.sha256, stat.st_ino, stat.st_size, stat.st_mtime_ns)
