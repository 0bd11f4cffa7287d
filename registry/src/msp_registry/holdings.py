"""What lies in the store, sorted by model: read off a listing of its keys."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from msp_registry.layout import Location, is_commit, locate, quarantine_key
from msp_registry.stores.store import NoSuchObject, ObjectStat, ObjectStore, read_small

_MAX_REF_BYTES = 4096
_DEFAULT_REF = "main"

# Refs and manifests are small and hundreds: one after the other they would cost as many round trips.
_PARALLEL_READS = 16

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Holdings:
    """What the store holds of one model."""

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, float] = field(default_factory=dict)
    """Published commits, and when."""
    quarantined: set[str] = field(default_factory=set)
    """Commits with files that are not served."""

    def add(self, place: Location, stat: ObjectStat) -> None:
        """Take note of one key."""
        if place.commit is None:
            return
        if place.is_manifest:
            self.commits[place.commit] = stat.modified_at
        elif stat.key == quarantine_key(place.repo_id, place.commit):
            self.quarantined.add(place.commit)

    def default_revision(self) -> str | None:
        """What a request without a revision means: `main`, else the first ref, else the newest commit."""
        live = sorted(ref for ref, commit in self.refs.items() if commit in self.commits)
        if _DEFAULT_REF in live:
            return _DEFAULT_REF
        if live:
            return live[0]
        return next(iter(self.newest_first()), None)

    def commit_of(self, revision: str) -> str | None:
        """The published commit that a revision names."""
        commit = revision if is_commit(revision) else self.refs.get(revision)
        return commit if commit in self.commits else None

    def newest_first(self) -> list[str]:
        """Published commits."""
        return sorted(self.commits, key=lambda c: (self.commits[c], c), reverse=True)


@dataclass(frozen=True)
class Listing:
    """One pass over the store, or over the part of it that is one model's."""

    models: dict[str, Holdings]
    """By id; also those of which nothing is published."""
    stored_bytes: int

    @property
    def published(self) -> dict[str, Holdings]:
        """Models with at least one published snapshot, by name."""
        return {repo_id: held for repo_id, held in sorted(self.models.items()) if held.commits}


async def list_holdings(store: ObjectStore, repo_id: str | None = None, *, with_refs: bool = True) -> Listing:
    """What there is, or what there is of one model; without refs no object is read. Raises StoreError."""
    models: dict[str, Holdings] = {}
    ref_keys: list[tuple[Location, str]] = []
    stored_bytes = 0
    async for stat in store.list("" if repo_id is None else f"{repo_id}/"):
        stored_bytes += stat.size_bytes
        place = locate(stat.key)
        # Below `org/` lie a model of that name and the organisation's.
        if place is None or repo_id not in (None, place.repo_id):
            continue
        models.setdefault(place.repo_id, Holdings()).add(place, stat)
        if place.ref is not None:
            ref_keys.append((place, stat.key))
    if with_refs:
        commits = await several(partial(read_ref, store), [key for _, key in ref_keys])
        for (place, _), commit in zip(ref_keys, commits, strict=True):
            if place.ref is not None and commit is not None:
                models[place.repo_id].refs[place.ref] = commit
    return Listing(models, stored_bytes)


async def several(read: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]:
    """What `read` gives of each item, in their order; a few are read at once."""
    turns = asyncio.Semaphore(_PARALLEL_READS)

    async def in_turn(item: T) -> R:
        async with turns:
            return await read(item)

    tasks = [asyncio.create_task(in_turn(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def read_ref(store: ObjectStore, key: str) -> str | None:
    """The commit that a ref names; None when there is none, or it is damaged. Raises StoreError."""
    try:
        data = json.loads(await read_small(store, key, _MAX_REF_BYTES))
    except NoSuchObject:
        return None  # deleted since it was listed
    except ValueError:
        data = None
    commit = data.get("commit") if isinstance(data, dict) else None
    if isinstance(commit, str) and is_commit(commit):
        return commit
    # One damaged ref must not hide every other model.
    log.error("%s names no commit and is passed over; point it at one again, or import the model again", key)
    return None
