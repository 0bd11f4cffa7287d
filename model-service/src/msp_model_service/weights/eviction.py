"""Which snapshots leave the cache when there is no room. A decision only; nothing here touches the disk."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Held:
    """One snapshot in the cache, whole or on its way."""

    name: str
    size_bytes: int
    """What it takes on disk."""
    last_used: float
    in_use: bool


@dataclass(frozen=True)
class Room:
    """What the cache has, and what it is to take."""

    need_bytes: int
    """What is still to be fetched."""
    free_bytes: int
    """What the disk has left."""
    own_bytes: int = 0
    """What the snapshot that is being filled takes already."""
    limit_bytes: int | None = None

    def lacking(self, held: Sequence[Held]) -> int:
        """Bytes that must go before everything fits; zero or less when it fits."""
        lacking = self.need_bytes - self.free_bytes
        if self.limit_bytes is not None:
            total = self.own_bytes + self.need_bytes + sum(one.size_bytes for one in held)
            lacking = max(lacking, total - self.limit_bytes)
        return lacking


def to_evict(held: Sequence[Held], room: Room) -> list[Held] | None:
    """What to delete, least recently used first, and no more than has to go.

    `held` leaves out the snapshot that is being filled. None when even deleting everything unused would not
    do: then nothing is to be deleted in vain.
    """
    lacking = room.lacking(held)
    chosen: list[Held] = []
    for one in sorted((one for one in held if not one.in_use), key=lambda one: one.last_used):
        if lacking <= 0:
            break
        if one.size_bytes:
            chosen.append(one)
            lacking -= one.size_bytes
    return chosen if lacking <= 0 else None
