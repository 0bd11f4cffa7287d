"""Garbage: what is removed, what is kept, and that nothing goes without being asked for."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from msp_common.contracts.jobs import DownloadRequest
from msp_common.contracts.models import GcReport, GcRequest
from msp_registry.layout import upload_key
from msp_registry.stores.store import PART_BYTES, ObjectStat, PendingUpload
from msp_registry.transfers.upload_record import UploadRecord, write_record
from support.registry_files import COMMITS, tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_parts import NOW, RegistryParts, ToldUsage, serving

A, B, C = COMMITS
MODEL = tiny_model()
OLD = NOW - 200_000
NOW_PLEASE = GcRequest(dry_run=False)


class DatedStore(MemoryStore):
    """Objects and uploads are as old as `written_at` said when they came; it may not know its uploads."""

    def __init__(self) -> None:
        super().__init__()
        self.written_at = OLD
        self.dates: dict[str, float] = {}
        self.lists_uploads = True

    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data)
        self.dates[key] = self.written_at

    async def begin_upload(self, key: str, *, size_bytes: int, part_bytes: int) -> str:
        upload_id = await super().begin_upload(key, size_bytes=size_bytes, part_bytes=part_bytes)
        self.dates[upload_id] = self.written_at
        return upload_id

    async def list(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        async for stat in super().list(prefix):
            yield replace(stat, modified_at=self.dates[stat.key])

    async def uploads(self, prefix: str) -> AsyncGenerator[PendingUpload, None]:
        if self.lists_uploads:
            async for pending in super().uploads(prefix):
                yield replace(pending, begun_at=self.dates[pending.upload_id])

    async def broken_off(self, repo_id: str, commit: str, *, noted: bool = True) -> str:
        """An upload of which one part of two has come; gives its key."""
        key = f"{repo_id}/{commit}/big"
        upload_id = await self.begin_upload(key, size_bytes=PART_BYTES + 1, part_bytes=PART_BYTES)
        await self.put_part(key, upload_id, 1, bytes(PART_BYTES))
        if noted:
            record = UploadRecord(
                path="big", size_bytes=PART_BYTES + 1, part_bytes=PART_BYTES, upload_id=upload_id
            )
            await write_record(self, upload_key(repo_id, commit, "big"), record)
        return key


@pytest.fixture
def store() -> DatedStore:
    return DatedStore()


@pytest.fixture
async def parts(store: DatedStore) -> AsyncGenerator[RegistryParts, None]:
    parts = RegistryParts(store)
    await parts.publish("org/a", MODEL)
    store.written_at = OLD
    await parts.jobs.restore()
    yield parts
    parts.let_go.set()
    await parts.jobs.stop()


def told(report: GcReport) -> list[tuple[str, str]]:
    return [(item.kind, item.name) for item in report.items]


async def test_a_dry_run_says_what_would_go_and_touches_nothing(
    parts: RegistryParts, store: DatedStore
) -> None:
    await store.put(f"org/b/{B}/x", b"12345")
    await store.broken_off("org/b", B)
    before = dict(store.objects)
    report = await parts.collector.collect(GcRequest())
    assert report.dry_run
    assert told(report) == [("unpublished", f"org/b@{B}")]
    assert report.freed_bytes == report.items[0].freed_bytes > PART_BYTES
    assert store.objects == before
    assert len(store.pending) == 1


@pytest.mark.parametrize("lists_uploads", [True, False])
async def test_files_without_a_manifest_go_with_their_uploads(
    parts: RegistryParts, store: DatedStore, lists_uploads: bool
) -> None:
    kept = dict(store.objects)
    await store.put(f"org/b/{B}/x", b"12345")
    await store.put(f"org/a/{B}/x", b"12345")
    await store.broken_off("org/b", B)
    store.lists_uploads = lists_uploads
    report = await parts.collector.collect(NOW_PLEASE)
    assert told(report) == [("unpublished", f"org/a@{B}"), ("unpublished", f"org/b@{B}")]
    assert [item.objects for item in report.items] == [1, 3]
    assert store.objects == kept
    assert store.pending == {}
    assert told(await parts.collector.collect(NOW_PLEASE)) == []


async def test_young_leftovers_are_kept(parts: RegistryParts, store: DatedStore) -> None:
    store.written_at = NOW - 100
    await store.put(f"org/b/{B}/x", b"1")
    await store.broken_off("org/a", A)
    assert told(await parts.collector.collect(NOW_PLEASE)) == []
    report = await parts.collector.collect(GcRequest(dry_run=False, older_than_s=50))
    assert told(report) == [("upload", f"org/a/{A}/big"), ("unpublished", f"org/b@{B}")]


async def test_parts_are_as_young_as_the_job_that_brought_them(
    parts: RegistryParts, store: DatedStore
) -> None:
    job = await parts.jobs.submit("org/b", DownloadRequest())
    await parts.jobs.wait(job.id)
    await store.put(f"org/b/{B}/x", b"1")
    assert told(await parts.collector.collect(NOW_PLEASE)) == []
    parts.now += 100_000
    assert told(await parts.collector.collect(NOW_PLEASE)) == [("unpublished", f"org/b@{B}")]


@pytest.mark.parametrize("lists_uploads", [True, False])
async def test_a_broken_off_upload_beside_a_published_snapshot_goes_alone(
    parts: RegistryParts, store: DatedStore, lists_uploads: bool
) -> None:
    kept = dict(store.objects)
    key = await store.broken_off("org/a", A)
    store.lists_uploads = lists_uploads
    report = await parts.collector.collect(NOW_PLEASE)
    assert told(report) == [("upload", key)]
    assert report.freed_bytes == PART_BYTES
    assert store.objects == kept
    assert store.pending == {}


async def test_a_model_that_a_job_is_at_work_on_is_left_alone_and_named(
    parts: RegistryParts, store: DatedStore
) -> None:
    parts.let_go.clear()
    job = await parts.jobs.submit("org/b", DownloadRequest())
    await store.put(f"org/b/{B}/x", b"1")
    await store.put(f"org/c/{B}/x", b"1")
    parts.now += 1_000_000
    for dry_run in (True, False):
        report = await parts.collector.collect(GcRequest(dry_run=dry_run))
        assert told(report) == [("unpublished", f"org/c@{B}")]
        assert list(report.skipped) == [f"org/b@{B}"]
        assert job.id in report.skipped[f"org/b@{B}"]
    assert f"org/b/{B}/x" in store.objects


async def test_what_somebody_names_meanwhile_is_not_collected(store: DatedStore) -> None:
    class PointingUsage(ToldUsage):
        """Between the first look and the removal, somebody lets a ref name the snapshot."""

        async def workers_of(self, repo_id: str, commit: str | None = None) -> list[str]:
            await here.catalogue.point("org/a", "prod", B)
            return []

    here = RegistryParts(store, usage=PointingUsage())
    await here.publish("org/a", MODEL, commit=B, ref=None)
    report = await here.collector.collect(GcRequest(dry_run=False, unreferenced=True))
    assert told(report) == []
    assert (await here.catalogue.find("org/a", "prod")).manifest.commit == B


async def test_snapshots_that_nobody_names_go_only_when_asked(
    parts: RegistryParts, store: DatedStore
) -> None:
    await parts.publish("org/a", MODEL, commit=B, ref=None)
    await parts.quarantine.put("org/a", B, {"config.json": "wrong"})
    assert told(await parts.collector.collect(NOW_PLEASE)) == []
    report = await parts.collector.collect(GcRequest(dry_run=False, unreferenced=True))
    assert told(report) == [("unreferenced", f"org/a@{B}")]
    assert (await parts.catalogue.published("org/a")).newest_first() == [A]
    assert parts.quarantine.files() == 0
    assert [key for key in store.objects if B in key] == []


async def test_what_is_promoted_at_the_last_moment_stays(store: DatedStore) -> None:
    class Promoting(ToldUsage):
        async def workers_of(self, repo_id: str, commit: str | None = None) -> list[str]:
            if len(self.asked) == 1 and commit:  # the second look, after which only the deletion is left
                await here.catalogue.move_ref(repo_id, "prod", commit)
            return await super().workers_of(repo_id, commit)

    here = RegistryParts(store, usage=Promoting())
    await here.publish("org/a", MODEL, ref=None)
    report = await here.collector.collect(GcRequest(dry_run=False, unreferenced=True))
    assert told(report) == []
    assert (await here.catalogue.find("org/a", "prod")).manifest.commit == A


async def test_snapshots_that_a_worker_uses_or_may_use_stay(parts: RegistryParts) -> None:
    await parts.publish("org/a", MODEL, commit=B, ref=None)
    wanted = GcRequest(dry_run=False, unreferenced=True)
    parts.usage.workers = ["llm-1"]
    report = await parts.collector.collect(wanted)
    assert (told(report), report.skipped) == ([], {})
    assert parts.usage.asked == [("org/a", B)]
    parts.usage.workers = None
    report = await parts.collector.collect(wanted)
    assert told(report) == []
    assert "whether a worker uses it is not known" in report.skipped[f"org/a@{B}"]
    assert len((await parts.catalogue.published("org/a")).newest_first()) == 2


async def test_a_collection_over_http_is_a_dry_run_unless_told_otherwise() -> None:
    store = DatedStore()
    parts = RegistryParts(store)
    await store.put(f"org/b/{B}/x", b"12345")
    async with serving(parts) as registry:
        for body in (None, {}, {"older_than_s": 1}):
            report = (await registry.http.post("/gc", json=body)).json()
            assert (report["dry_run"], report["freed_bytes"]) == (True, 5)
        report = (await registry.http.post("/gc", json={"dry_run": False})).json()
        assert (report["dry_run"], report["freed_bytes"]) == (False, 5)
        assert (await registry.http.post("/gc")).json()["items"] == []
    assert store.objects == {}
