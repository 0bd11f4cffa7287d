"""What lies in the store, sorted by model: read off a listing of its keys."""

import asyncio
import json
import logging
from dataclasses import dataclass, field

from msp_registry.layout import Location, is_commit, locate, quarantine_key
from msp_registry.stores.store import NoSuchObject, ObjectStat, ObjectStore, read_small

_MAX_REF_BYTES = 4096
_DEFAULT_REF = "main"

# Refs are tiny and hundreds: one after the other they would cost as many round trips to the store.
_PARALLEL_READS = 16

log = logging.getLogger(__name__)


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
    """One pass over the store, or over the part of it below a prefix."""

    models: dict[str, Holdings]
    """By id; also those of which nothing is published."""
    stored_bytes: int

    @property
    def published(self) -> dict[str, Holdings]:
        """Models with at least one published snapshot, by name."""
        return {repo_id: held for repo_id, held in sorted(self.models.items()) if held.commits}


async def list_holdings(store: ObjectStore, prefix: str = "", *, with_refs: bool = True) -> Listing:
    """What there is below a prefix; without refs no object is read. Raises StoreError."""
    models: dict[str, Holdings] = {}
    ref_keys: list[tuple[Location, str]] = []
    stored_bytes = 0
    async for stat in store.list(prefix):
        stored_bytes += stat.size_bytes
        place = locate(stat.key)
        if place is None:
            continue
        models.setdefault(place.repo_id, Holdings()).add(place, stat)
        if place.ref is not None:
            ref_keys.append((place, stat.key))
    if with_refs:
        commits = await _all_of(store, [key for _, key in ref_keys])
        for (place, _), commit in zip(ref_keys, commits, strict=True):
            if place.ref is not None and commit is not None:
                models[place.repo_id].refs[place.ref] = commit
    return Listing(models, stored_bytes)


async def _all_of(store: ObjectStore, keys: list[str]) -> list[str | None]:
    turns = asyncio.Semaphore(_PARALLEL_READS)

    async def read(key: str) -> str | None:
        async with turns:
            return await read_ref(store, key)

    tasks = [asyncio.create_task(read(key)) for key in keys]
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
