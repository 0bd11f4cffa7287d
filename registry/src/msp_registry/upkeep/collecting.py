"""Collecting garbage: what nobody can see any more, and what nobody names or uses."""

import logging
from collections.abc import Callable

from msp_common.contracts.models import GcItem, GcReport, GcRequest
from msp_registry.catalogue import Catalogue, NoSuchModel, StillNamed
from msp_registry.jobs.jobs import Jobs, RepoBusy
from msp_registry.layout import file_key
from msp_registry.stores.store import ObjectStore
from msp_registry.transfers.upload_record import read_record
from msp_registry.upkeep.leftovers import Remains, bytes_of, survey
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.usage import Usage, UsageUnknown

log = logging.getLogger(__name__)


class Collector:
    """Finds garbage, and removes it when that is wanted."""

    def __init__(
        self,
        store: ObjectStore,
        catalogue: Catalogue,
        jobs: Jobs,
        quarantine: Quarantine,
        usage: Usage,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._jobs = jobs
        self._quarantine = quarantine
        self._usage = usage
        self._clock = clock

    async def collect(self, request: GcRequest) -> GcReport:
        """What was removed, or with `dry_run` would be. Raises StoreError.

        A model that a job is at work on is left alone, and named in the report.
        """
        items: list[GcItem] = []
        skipped: dict[str, str] = {}
        refs = await self._referenced() if request.unreferenced else {}
        for remains in await survey(self._store):
            found = await self._garbage(remains, request, refs, skipped)
            if not found:
                continue
            try:
                if request.dry_run:
                    self._refuse_when_busy(remains.repo_id)
                else:
                    async with self._jobs.exclusive(remains.repo_id):
                        found = await self._remove(remains, request)
            except RepoBusy as busy:
                skipped[remains.name] = str(busy)
                continue
            items += found
        freed_bytes = sum(item.freed_bytes for item in items)
        if not request.dry_run:
            log.info("collected %d thing(s), %d bytes are free again", len(items), freed_bytes)
        return GcReport(dry_run=request.dry_run, items=items, freed_bytes=freed_bytes, skipped=skipped)

    async def _garbage(
        self, remains: Remains, request: GcRequest, refs: dict[str, set[str]], skipped: dict[str, str]
    ) -> list[GcItem]:
        """Items of one snapshot; `refs` has the commits that refs name, by model."""
        before = self._clock() - request.older_than_s
        if remains.published_at is None:
            if max(remains.touched_at, self._last_job_at(remains)) > before:
                return []
            return [await self._item("unpublished", remains)]
        if (
            request.unreferenced
            and remains.published_at <= before
            and remains.commit not in refs.get(remains.repo_id, ())
            and await self._unused(remains, skipped)
        ):
            return [await self._item("unreferenced", remains)]
        if self._last_job_at(remains) > before:
            return []
        return [
            GcItem(kind="upload", name=upload.key, objects=1, freed_bytes=await bytes_of(self._store, upload))
            for upload, begun_at in remains.uploads.items()
            if begun_at <= before
        ]

    async def _remove(self, seen: Remains, request: GcRequest) -> list[GcItem]:
        """Look once more, now that no job of the model runs, and remove what still is garbage."""
        prefix = f"{seen.repo_id}/{seen.commit}/"
        refs = await self._referenced(seen.repo_id) if request.unreferenced else {}
        removed: list[GcItem] = []
        for remains in await survey(self._store, prefix):
            for item in await self._garbage(remains, request, refs, {}):
                if item.kind == "upload":
                    await self._abort(remains, item.name)
                else:
                    try:
                        await self._catalogue.delete(
                            remains.repo_id, remains.commit, unless_named=item.kind == "unreferenced"
                        )
                    except (NoSuchModel, StillNamed):
                        continue
                    self._quarantine.forget(remains.repo_id, remains.commit)
                log.info("collected %s %s, %d bytes", item.kind, item.name, item.freed_bytes)
                removed.append(item)
        return removed

    async def _abort(self, remains: Remains, key: str) -> None:
        for upload in [u for u in remains.uploads if u.key == key]:
            await self._store.abort_upload(upload.key, upload.upload_id)
        for noted in remains.records:
            record = await read_record(self._store, noted)
            if record is None or file_key(remains.repo_id, remains.commit, record.path) == key:
                await self._store.delete(noted)

    async def _item(self, kind: str, remains: Remains) -> GcItem:
        parts_bytes = sum([await bytes_of(self._store, upload) for upload in remains.uploads])
        return GcItem.model_validate(
            {
                "kind": kind,
                "name": remains.name,
                "objects": remains.objects + len(remains.uploads),
                "freed_bytes": remains.bytes + parts_bytes,
            }
        )

    async def _referenced(self, repo_id: str | None = None) -> dict[str, set[str]]:
        if repo_id is None:
            models = (await self._catalogue.listing()).published
            return {name: set(held.refs.values()) for name, held in models.items()}
        try:
            return {repo_id: set((await self._catalogue.refs(repo_id)).values())}
        except NoSuchModel:
            return {}

    async def _unused(self, remains: Remains, skipped: dict[str, str]) -> bool:
        try:
            return not await self._usage.workers_of(remains.repo_id, remains.commit)
        except UsageUnknown as error:
            skipped[remains.name] = f"no ref names it, but whether a worker uses it is not known: {error}"
            return False

    def _last_job_at(self, remains: Remains) -> float:
        """Parts have no age of their own: the job that brought them was at work until then."""
        return max(
            (
                job.updated_at
                for job in self._jobs.all()
                if job.repo_id == remains.repo_id and job.commit in (None, remains.commit)
            ),
            default=0.0,
        )

    def _refuse_when_busy(self, repo_id: str) -> None:
        for job in self._jobs.all():
            if job.repo_id == repo_id and not job.state.ended:
                raise RepoBusy(f"job {job.id} is at work on {repo_id}; wait until it has ended, or cancel it")
