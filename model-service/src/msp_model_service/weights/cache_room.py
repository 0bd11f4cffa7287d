"""Making room in the shared cache: looks what is there, and deletes what `eviction` chose."""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from msp_model_service.weights.cache import COMMIT, SnapshotFolder
from msp_model_service.weights.eviction import Held, Room, to_evict
from msp_model_service.weights.fetch_errors import NotYet

log = logging.getLogger(__name__)


def free_bytes(path: Path) -> int:
    """What the disk under `path` has left for this user."""
    return shutil.disk_usage(path).free


@dataclass(frozen=True)
class CacheRoom:
    """The room of one cache folder."""

    cache_dir: Path
    limit_bytes: int | None = None
    free: Callable[[Path], int] = free_bytes

    def make(self, filling: SnapshotFolder, need_bytes: int) -> None:
        """See to it that `need_bytes` more fit into `filling`, deleting snapshots that nobody uses.

        A snapshot is deleted only under its `.in-use` lock, which every worker that fills it or runs from it
        holds; never `filling`. Raises NotYet with both numbers when that is not enough.
        """
        if self.limit_bytes is None and need_bytes <= self.free(filling.repo):
            return
        with ExitStack() as locks:
            held: dict[str, Held] = {}
            folders: dict[str, SnapshotFolder] = {}
            for folder in self._others(filling):
                lock = folder.in_use()
                idle = lock.try_acquire(exclusive=True)
                locks.callback(lock.release)
                name = f"{folder.path.relative_to(self.cache_dir)}"
                folders[name] = folder
                held[name] = Held(name, taken_bytes(folder.path), folder.last_used(), in_use=not idle)
            room = Room(need_bytes, self.free(filling.repo), taken_bytes(filling.path), self.limit_bytes)
            chosen = to_evict(list(held.values()), room)
            if chosen is None:
                raise NotYet(self._too_little(room, held))
            for one in chosen:
                log.warning(
                    "deleting %s from the cache to make room: %d bytes, unused since %.0f (unix time)",
                    one.name,
                    one.size_bytes,
                    one.last_used,
                )
                try:
                    folders[one.name].delete()
                except OSError as error:
                    raise NotYet(
                        f"{one.name} cannot be deleted from the cache to make room: {error}"
                    ) from error

    def _others(self, filling: SnapshotFolder) -> list[SnapshotFolder]:
        # Ids have one or two parts.
        found = [*self.cache_dir.glob("*/*"), *self.cache_dir.glob("*/*/*")]
        return [
            SnapshotFolder(self.cache_dir, path.parent.relative_to(self.cache_dir).as_posix(), path.name)
            for path in sorted(found)
            if COMMIT.fullmatch(path.name)
            and path.is_dir()
            and not path.is_symlink()
            and path != filling.path
        ]

    def _too_little(self, room: Room, held: dict[str, Held]) -> str:
        unused = sum(one.size_bytes for one in held.values() if not one.in_use)
        told = (
            f"{room.need_bytes} bytes are still to be fetched, but only {room.free_bytes} are free in "
            f"{self.cache_dir}"
        )
        if room.limit_bytes is not None:
            total = room.own_bytes + sum(one.size_bytes for one in held.values())
            told += f", which holds {total} of the {room.limit_bytes} bytes of MODEL_CACHE_LIMIT_BYTES"
        used = [name for name, one in held.items() if one.in_use]
        return (
            f"{told}; deleting what no worker uses would free {unused}"
            + (f"; in use: {', '.join(used)}" if used else "")
            + "; free some room, or stop a worker"
        )


def taken_bytes(folder: Path) -> int:
    """What a folder takes on disk, what is allocated for files on their way included."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue  # finished or given up at this moment
    return total
