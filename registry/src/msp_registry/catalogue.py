"""The models in the store: which there are, what a revision names, publishing and deleting.

Readers trust only a manifest; whatever lies in the store without one does not exist for them.
"""

import json
import logging
from collections import OrderedDict
from dataclasses import dataclass, field

from pydantic import ValidationError

from msp_common.contracts.models import Manifest, ModelSummary
from msp_registry.layout import Location, canonical_json, is_commit, locate, manifest_key, ref_key
from msp_registry.store import NoSuchObject, ObjectStat, ObjectStore, StoreError, read_small, write_small

_MAX_MANIFEST_BYTES = 64 << 20
_REMEMBERED_MANIFESTS = 256
_DEFAULT_REF = "main"

log = logging.getLogger(__name__)


class NoSuchModel(LookupError):
    """The store has no published snapshot of this model, or not of this revision."""


class DamagedManifest(StoreError):
    """A manifest that cannot be read, or that is another snapshot's."""


@dataclass
class Holdings:
    """What the store holds of one model."""

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, float] = field(default_factory=dict)
    """Published commits, and when."""

    def add(self, place: Location, stat: ObjectStat) -> None:
        """Take note of one key."""
        if place.is_manifest and place.commit:
            self.commits[place.commit] = stat.modified_at

    def default_revision(self) -> str | None:
        """What a request without a revision means: `main`, else the first ref, else the newest commit."""
        live = sorted(ref for ref, commit in self.refs.items() if commit in self.commits)
        if _DEFAULT_REF in live:
            return _DEFAULT_REF
        if live:
            return live[0]
        return max(self.commits, key=lambda c: (self.commits[c], c), default=None)

    def commit_of(self, revision: str) -> str | None:
        """The published commit that a revision names."""
        commit = revision if is_commit(revision) else self.refs.get(revision)
        return commit if commit in self.commits else None


@dataclass(frozen=True)
class Found:
    """A snapshot that a revision names."""

    revision: str
    manifest: Manifest
    refs: dict[str, str]


@dataclass(frozen=True)
class Deleted:
    """What a deletion removed."""

    objects: int
    freed_bytes: int


class Catalogue:
    """All models of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._manifests: OrderedDict[tuple[str, str], Manifest] = OrderedDict()

    async def models(self) -> list[ModelSummary]:
        """Every model that has a published snapshot, by name."""
        summaries = []
        for repo_id, held in sorted((await self._holdings("")).items()):
            revision = held.default_revision()
            commit = held.commit_of(revision) if revision else None
            if commit is None:
                continue
            try:
                manifest = await self.manifest(repo_id, commit)
            except (NoSuchModel, DamagedManifest) as error:
                log.error("%s is left out of the list of models: %s", repo_id, error)
                continue
            summaries.append(
                ModelSummary(
                    id=repo_id,
                    commit=commit,
                    refs=held.refs,
                    total_bytes=manifest.total_bytes,
                    format=manifest.format,
                    parameters=manifest.parameters,
                )
            )
        return summaries

    async def find(self, repo_id: str, revision: str | None = None) -> Found:
        """The snapshot that a revision names; without one, the model's default. Raises NoSuchModel."""
        held = (await self._holdings(f"{repo_id}/")).get(repo_id, Holdings())
        wanted = revision or held.default_revision()
        if wanted is None:
            raise NoSuchModel(f"the registry holds no model {repo_id!r}")
        commit = held.commit_of(wanted)
        if commit is None:
            known = ", ".join(sorted({*held.refs, *held.commits})) or "none"
            raise NoSuchModel(f"the registry holds no revision {wanted!r} of {repo_id!r}; it has: {known}")
        return Found(wanted, await self.manifest(repo_id, commit), held.refs)

    async def manifest(self, repo_id: str, commit: str) -> Manifest:
        """The manifest of a published snapshot. Raises NoSuchModel and DamagedManifest."""
        known = self._manifests.get((repo_id, commit))
        if known is not None:
            self._manifests.move_to_end((repo_id, commit))
            return known
        key = manifest_key(repo_id, commit)
        try:
            manifest = Manifest.model_validate_json(await read_small(self._store, key, _MAX_MANIFEST_BYTES))
        except NoSuchObject:
            raise NoSuchModel(f"the registry holds no commit {commit} of {repo_id!r}") from None
        except ValidationError as error:
            raise DamagedManifest(f"{key} is no manifest: {error.errors()[0]['msg']}") from None
        if (manifest.repo_id, manifest.commit) != (repo_id, commit):
            raise DamagedManifest(f"{key} is the manifest of {manifest.repo_id}@{manifest.commit}")
        self._remember(manifest)
        return manifest

    async def publish(self, manifest: Manifest, ref: str | None) -> None:
        """Make a snapshot visible, all of whose files are stored: the manifest first, then the ref."""
        key = manifest_key(manifest.repo_id, manifest.commit)
        await write_small(self._store, key, canonical_json(manifest.model_dump(mode="json")))
        self._remember(manifest)
        if ref is not None:
            await self.point(manifest.repo_id, ref, manifest.commit)

    async def point(self, repo_id: str, ref: str, commit: str) -> None:
        """Let a branch or tag name a published commit; written only when that changes something."""
        key = ref_key(repo_id, ref)
        data = canonical_json({"commit": commit})
        try:
            if await read_small(self._store, key, 4096) == data:
                return
        except NoSuchObject:
            pass
        await write_small(self._store, key, data)

    async def delete(self, repo_id: str) -> Deleted:
        """Remove all of a model: refs and manifests first, so that a kill in between leaves nothing visible.

        Raises NoSuchModel when nothing, not even an unpublished rest, is there.
        """
        mine = []
        async for stat in self._store.list(f"{repo_id}/"):
            place = locate(stat.key)
            if place is not None and place.repo_id == repo_id:
                mine.append((0 if place.ref else 1 if place.is_manifest else 2, stat))
        if not mine:
            raise NoSuchModel(f"the registry holds no model {repo_id!r}")
        for known in [k for k in self._manifests if k[0] == repo_id]:
            del self._manifests[known]
        for _, stat in sorted(mine, key=lambda item: (item[0], item[1].key)):
            await self._store.delete(stat.key)
        return Deleted(len(mine), sum(stat.size_bytes for _, stat in mine))

    async def stored_bytes(self) -> int:
        """Size of everything in the store."""
        return sum([stat.size_bytes async for stat in self._store.list("")])

    async def _holdings(self, prefix: str) -> dict[str, Holdings]:
        found: dict[str, Holdings] = {}
        async for stat in self._store.list(prefix):
            place = locate(stat.key)
            if place is None:
                continue
            held = found.setdefault(place.repo_id, Holdings())
            held.add(place, stat)
            if place.ref:
                commit = await self._ref(stat.key)
                if commit:
                    held.refs[place.ref] = commit
        return found

    async def _ref(self, key: str) -> str | None:
        try:
            data = json.loads(await read_small(self._store, key, 4096))
        except NoSuchObject:
            return None  # deleted since it was listed
        except ValueError:
            data = None
        commit = data.get("commit") if isinstance(data, dict) else None
        if isinstance(commit, str) and is_commit(commit):
            return commit
        # One damaged ref must not hide every other model.
        log.error("%s names no commit and is passed over; import or download the model again", key)
        return None

    def _remember(self, manifest: Manifest) -> None:
        self._manifests[manifest.repo_id, manifest.commit] = manifest
        while len(self._manifests) > _REMEMBERED_MANIFESTS:
            self._manifests.popitem(last=False)
