"""Files that are no longer what their manifest says: listed beside their snapshot, and not served."""

import logging
from collections.abc import Mapping

from pydantic import ValidationError

from msp_common.contracts.base import Contract
from msp_common.snapshots import OWN_FOLDER, canonical_json
from msp_registry.layout import locate, quarantine_key
from msp_registry.stores.store import NoSuchObject, ObjectStore, read_small

UNREADABLE = f"{OWN_FOLDER}/quarantine.json"
"""Stands for all files of a snapshot whose record cannot be read: any of them may be in it."""

_MAX_BYTES = 16 << 20

log = logging.getLogger(__name__)


class _Record(Contract):
    """What stands in the store."""

    files: dict[str, str]
    """Path and what is wrong with it."""


class Quarantine:
    """The bad files of every snapshot. It remembers what it has read: it is the only one that writes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        self._all_known = False

    async def restore(self) -> None:
        """Read what earlier processes have found; afterwards serving a file asks the store for nothing.

        Raises StoreError.
        """
        async for stat in self._store.list(""):
            place = locate(stat.key)
            if place is None or place.commit is None:
                continue
            if stat.key == quarantine_key(place.repo_id, place.commit):
                await self.of(place.repo_id, place.commit)
        self._all_known = True

    async def of(self, repo_id: str, commit: str) -> Mapping[str, str]:
        """Path of each bad file of a snapshot, and what is wrong with it. Raises StoreError."""
        known = self._known.get((repo_id, commit))
        if known is not None:
            return known
        if self._all_known:
            return {}
        return self._known.setdefault((repo_id, commit), await self._read(repo_id, commit))

    def all(self) -> dict[tuple[str, str], Mapping[str, str]]:
        """Every snapshot with bad files that is known of, by model and commit."""
        return {snapshot: files for snapshot, files in sorted(self._known.items()) if files}

    def files(self) -> int:
        """How many files are not served."""
        return sum(len(files) for files in self._known.values())

    async def put(self, repo_id: str, commit: str, bad: Mapping[str, str]) -> None:
        """These files of the snapshot are bad and all others are not. Raises StoreError.

        They are not served from now on, even if that cannot be written down.
        """
        key = quarantine_key(repo_id, commit)
        if bad:
            self._known[repo_id, commit] = dict(bad)
            await self._store.put(key, canonical_json(_Record(files=dict(bad)).model_dump()))
        elif await self.of(repo_id, commit):
            await self._store.delete(key)
            self._known[repo_id, commit] = {}

    async def lift(self, repo_id: str, commit: str) -> None:
        """All files of the snapshot are right again. Raises StoreError."""
        await self.put(repo_id, commit, {})

    def forget(self, repo_id: str, commit: str | None = None) -> None:
        """The snapshot, or without a commit the model, was deleted with all that lay beside it."""
        for known in [k for k in self._known if k[0] == repo_id and commit in (None, k[1])]:
            del self._known[known]

    async def _read(self, repo_id: str, commit: str) -> dict[str, str]:
        key = quarantine_key(repo_id, commit)
        try:
            return _Record.model_validate_json(await read_small(self._store, key, _MAX_BYTES)).files
        except NoSuchObject:
            return {}
        except ValidationError as error:
            log.error("%s cannot be read: %s; verify the model", key, error.errors()[0]["msg"])
            return {UNREADABLE: "the list of its bad files cannot be read"}


def fault_in(bad: Mapping[str, str], path: str) -> str | None:
    """Why a file is not to be served, by what `Quarantine.of` gives; None when it may be."""
    return bad.get(path) or bad.get(UNREADABLE)
