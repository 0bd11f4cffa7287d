"""The models in the store: which there are, what a revision names, publishing, moving refs, deleting.

Readers trust only a manifest; whatever lies in the store without one does not exist for them.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from anyio import to_thread
from pydantic import ValidationError

from msp_common.contracts.models import Manifest, ModelSummary
from msp_common.snapshots import canonical_json
from msp_registry.holdings import Holdings, Listing, list_holdings, read_ref, several
from msp_registry.layout import Location, is_commit, locate, manifest_key, ref_key
from msp_registry.manifest_memory import ManifestMemory, Outline, outlined
from msp_registry.stores.store import NoSuchObject, ObjectStat, ObjectStore, StoreError, read_small
from msp_registry.upkeep.leftovers import survey

_MAX_MANIFEST_BYTES = 64 << 20

# Some 5,000 files, which take 40 ms to parse.
_PARSED_IN_THREAD_FROM_BYTES = 1 << 20

log = logging.getLogger(__name__)


class NoSuchModel(LookupError):
    """The store has no published snapshot of this model, or not of this revision."""


class NoSuchRef(LookupError):
    """The model has no such branch, tag or channel."""


class StillNamed(Exception):
    """A ref names the commit that was to be deleted only if none does."""


class DamagedManifest(StoreError):
    """A manifest that cannot be read, or that is another snapshot's."""


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
    commits: list[str] = field(default_factory=list)
    """Those that were published."""
    refs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Census:
    """What the last look at the whole store found."""

    models: int
    stored_bytes: int


class _Memory:
    """What a catalogue remembers of its store."""

    def __init__(self) -> None:
        self.manifests = ManifestMemory()
        # A ref must not come to name a commit that is being deleted.
        self.changing = asyncio.Lock()
        self.census: Census | None = None


class Catalogue:
    """All models of one store. It expects to be the only one that publishes and deletes there."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._memory = _Memory()

    def over(self, store: ObjectStore) -> "Catalogue":
        """This catalogue, reaching the same objects another way, such as a patient one."""
        other = Catalogue(store)
        other._memory = self._memory
        return other

    @property
    def census(self) -> Census | None:
        """None until the whole store was listed once."""
        return self._memory.census

    async def models(self) -> list[ModelSummary]:
        """Every model that has a published snapshot, by name."""
        published = (await self.listing()).published
        summaries = await several(self._summary, published.items())
        return [summary for summary in summaries if summary is not None]

    async def ids(self) -> list[str]:
        """Ids of the models that have a published snapshot: one listing, and nothing is read."""
        return list(self._counted(await list_holdings(self._store, with_refs=False)).published)

    async def listing(self, repo_id: str | None = None) -> Listing:
        """Refs and commits of all models, or of one."""
        if repo_id is not None:
            return await list_holdings(self._store, repo_id)
        return self._counted(await list_holdings(self._store))

    async def find(self, repo_id: str, revision: str | None = None) -> Found:
        """The snapshot that a revision names; without one, the model's default. Raises NoSuchModel."""
        held = await self._held(repo_id)
        wanted = revision or held.default_revision()
        if wanted is None:
            raise NoSuchModel(f"the registry holds no model {repo_id!r}")
        commit = held.commit_of(wanted)
        if commit is None:
            known = ", ".join(sorted({*held.refs, *held.commits})) or "none"
            raise NoSuchModel(f"the registry holds no revision {wanted!r} of {repo_id!r}; it has: {known}")
        return Found(wanted, await self.manifest(repo_id, commit), held.refs)

    async def named(self, repo_id: str, revision: str) -> Manifest:
        """As `find`, for those who only want the manifest: costs one small read at most.

        Raises NoSuchModel, which does not tell what there is instead.
        """
        commit: str | None = revision
        if not is_commit(revision):
            commit = await read_ref(self._store, ref_key(repo_id, revision))
        if commit is None:
            raise NoSuchModel(f"the registry holds no revision {revision!r} of {repo_id!r}")
        return await self.manifest(repo_id, commit)

    async def refs(self, repo_id: str) -> dict[str, str]:
        """What each ref of a model names, by ref. Raises NoSuchModel when nothing of it is published."""
        return (await self.published(repo_id)).refs

    async def published(self, repo_id: str) -> Holdings:
        """What there is of a model. Raises NoSuchModel when nothing of it is published."""
        held = await self._held(repo_id)
        if not held.commits:
            raise NoSuchModel(f"the registry holds no model {repo_id!r}")
        return held

    async def manifest(self, repo_id: str, commit: str, *, fresh: bool = False) -> Manifest:
        """The manifest of a published snapshot; `fresh` asks the store even for one that is remembered.

        Raises NoSuchModel and DamagedManifest.
        """
        memory = self._memory.manifests
        known = memory.get(repo_id, commit)
        if known is not None and not fresh:
            return known
        key, forgettings = manifest_key(repo_id, commit), memory.forgettings
        try:
            manifest = await _parsed(await read_small(self._store, key, _MAX_MANIFEST_BYTES))
        except NoSuchObject:
            memory.forget(repo_id, commit)
            raise NoSuchModel(f"the registry holds no commit {commit} of {repo_id!r}") from None
        except ValidationError as error:
            raise DamagedManifest(f"{key} is no manifest: {error.errors()[0]['msg']}") from None
        if (manifest.repo_id, manifest.commit) != (repo_id, commit):
            raise DamagedManifest(f"{key} is the manifest of {manifest.repo_id}@{manifest.commit}")
        memory.keep(manifest, forgettings=forgettings)
        return manifest

    async def publish(self, manifest: Manifest, ref: str | None) -> None:
        """Make a snapshot visible, all of whose files are stored: the manifest first, then the ref."""
        key = manifest_key(manifest.repo_id, manifest.commit)
        await self._store.put(key, canonical_json(manifest.model_dump(mode="json")))
        memory = self._memory.manifests
        # A commit may be published anew with more files, while somebody still reads what it was before.
        memory.forget(manifest.repo_id, manifest.commit)
        memory.keep(manifest, forgettings=memory.forgettings)
        if ref is not None:
            await self.point(manifest.repo_id, ref, manifest.commit)

    async def point(self, repo_id: str, ref: str, commit: str) -> None:
        """Let a branch or tag name a published commit; written only when that changes something."""
        key = ref_key(repo_id, ref)
        if await read_ref(self._store, key) != commit:
            await self._store.put(key, canonical_json({"commit": commit}))

    async def move_ref(self, repo_id: str, ref: str, commit: str) -> None:
        """As `point`, for a commit of which it is not sure that it is there. Raises NoSuchModel."""
        async with self._memory.changing:
            await self.manifest(repo_id, commit, fresh=True)
            await self.point(repo_id, ref, commit)

    async def delete_ref(self, repo_id: str, ref: str) -> None:
        """Forget a ref, be it the last; the commit stays and answers to its hash.

        Raises NoSuchModel and NoSuchRef.
        """
        async with self._memory.changing:
            refs = await self.refs(repo_id)
            if ref not in refs:
                known = ", ".join(refs) or "none"
                raise NoSuchRef(f"{repo_id!r} has no ref {ref!r}; it has: {known}")
            await self._store.delete(ref_key(repo_id, ref))

    async def delete(self, repo_id: str, commit: str | None = None, *, unless_named: bool = False) -> Deleted:
        """Remove all of a model, or one commit and the refs that name it, broken-off uploads included.

        Refs go first, then manifests: a kill in between leaves nothing visible. Raises NoSuchModel when
        nothing, not even an unpublished rest, is there; with `unless_named` StillNamed, also when the ref
        has come a moment ago.
        """
        async with self._memory.changing:
            held = await self._held(repo_id)
            if unless_named and commit in held.refs.values():
                raise StillNamed(f"a ref of {repo_id!r} names commit {commit}")
            doomed = [
                (place, stat)
                for place, stat in await self._objects(repo_id)
                if commit is None or (held.refs.get(place.ref) if place.ref else place.commit) == commit
            ]
            pending = await self._abort_uploads(repo_id, commit)
            if not doomed and not pending:
                rest = "" if commit is None else f" commit {commit} of"
                raise NoSuchModel(f"the registry holds no{rest or ' model'} {repo_id!r}")
            visible = [item for item in doomed if item[0].ref or item[0].is_manifest]
            try:
                for _, stat in sorted(visible, key=_order_of_deletion):
                    await self._store.delete(stat.key)
            finally:
                self._memory.manifests.forget(repo_id, commit)
            for stat in [stat for place, stat in doomed if not (place.ref or place.is_manifest)]:
                await self._store.delete(stat.key)
        return Deleted(
            objects=len(doomed),
            freed_bytes=sum(stat.size_bytes for _, stat in doomed),
            commits=[place.commit for place, _ in doomed if place.is_manifest and place.commit],
            refs=[place.ref for place, _ in doomed if place.ref],
        )

    async def stored_bytes(self) -> int:
        """Size of everything in the store."""
        return sum([stat.size_bytes async for stat in self._store.list("")])

    async def _held(self, repo_id: str) -> Holdings:
        return (await self.listing(repo_id)).models.get(repo_id, Holdings())

    async def _objects(self, repo_id: str) -> list[tuple[Location, ObjectStat]]:
        found = []
        async for stat in self._store.list(f"{repo_id}/"):
            place = locate(stat.key)
            if place is not None and place.repo_id == repo_id:
                found.append((place, stat))
        return found

    async def _abort_uploads(self, repo_id: str, commit: str | None) -> int:
        pending = [
            upload
            for remains in await survey(self._store, f"{repo_id}/")
            if remains.repo_id == repo_id and commit in (None, remains.commit)
            for upload in remains.uploads
        ]
        for upload in pending:
            await self._store.abort_upload(upload.key, upload.upload_id)
        return len(pending)

    async def _summary(self, item: tuple[str, Holdings]) -> ModelSummary | None:
        """None for a model whose manifest is damaged, or that was deleted since it was listed."""
        repo_id, held = item
        revision = held.default_revision()
        commit = held.commit_of(revision) if revision else None
        if commit is None:
            return None
        try:
            outline = await self._outline(repo_id, commit)
        except (NoSuchModel, DamagedManifest) as error:
            log.error("%s is left out of the list of models: %s", repo_id, error)
            return None
        return ModelSummary(
            id=repo_id,
            commit=commit,
            refs=held.refs,
            total_bytes=outline.total_bytes,
            format=outline.format,
            parameters=outline.parameters,
            quarantined=commit in held.quarantined,
        )

    async def _outline(self, repo_id: str, commit: str) -> Outline:
        known = self._memory.manifests.outline(repo_id, commit)
        return known or outlined(await self.manifest(repo_id, commit))

    def _counted(self, listing: Listing) -> Listing:
        self._memory.census = Census(len(listing.published), listing.stored_bytes)
        return listing


async def _parsed(data: bytes) -> Manifest:
    """Raises ValidationError."""
    if len(data) < _PARSED_IN_THREAD_FROM_BYTES:
        return Manifest.model_validate_json(data)
    return await to_thread.run_sync(Manifest.model_validate_json, data)


def _order_of_deletion(item: tuple[Location, ObjectStat]) -> tuple[int, str]:
    place, stat = item
    return (0 if place.ref else 1, stat.key)
