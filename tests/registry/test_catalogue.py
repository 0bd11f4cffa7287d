"""The catalogue: listing, refs, and deletions that leave nothing dangling."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel, NoSuchRef, StillNamed
from msp_registry.layout import manifest_key, quarantine_key, ref_key, upload_key
from msp_registry.stores.folder_store import FolderStore
from msp_registry.stores.store import PART_BYTES
from msp_registry.transfers.upload_record import UploadRecord, write_record
from support.registry_files import COMMITS, publish, tiny_model
from support.registry_memory_store import MemoryStore

A, B, C = COMMITS
MODEL = tiny_model()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def catalogue(store: MemoryStore) -> Catalogue:
    return Catalogue(store)


async def test_the_list_tells_refs_sizes_and_damage(store: MemoryStore, catalogue: Catalogue) -> None:
    await publish(store, catalogue, "org/a", MODEL)
    await publish(store, catalogue, "org/a", MODEL, commit=B, ref="prod")
    await publish(store, catalogue, "bare", {"x": b"12345"}, ref=None)
    await store.put(quarantine_key("org/a", A), b"{}")
    await store.put("org/unpublished/" + C + "/x", b"1")
    bare, both = await catalogue.models()
    assert (bare.id, bare.commit, bare.refs, bare.total_bytes, bare.quarantined) == ("bare", A, {}, 5, False)
    assert (both.id, both.commit, both.refs) == ("org/a", A, {"main": A, "prod": B})
    assert (both.total_bytes, both.quarantined) == (sum(map(len, MODEL.values())), True)
    assert await catalogue.ids() == ["bare", "org/a"]
    assert catalogue.census is not None
    assert catalogue.census.models == 2
    assert catalogue.census.stored_bytes == sum(map(len, store.objects.values()))


async def test_a_damaged_ref_hides_nothing_else(store: MemoryStore, catalogue: Catalogue) -> None:
    await publish(store, catalogue, "org/a", MODEL)
    await store.put(ref_key("org/a", "prod"), b"{]")
    await store.put(ref_key("org/a", "dev"), b'{"commit": "short"}')
    assert await catalogue.refs("org/a") == {"main": A}
    await catalogue.move_ref("org/a", "prod", A)
    assert await catalogue.refs("org/a") == {"main": A, "prod": A}


async def test_commits_are_listed_newest_first(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.prepare()
    catalogue = Catalogue(store)
    for commit in (B, A, C):
        await publish(store, catalogue, "org/a", {"x": b"1"}, commit=commit, ref=None)
    commits = (await catalogue.published("org/a")).newest_first()
    assert set(commits) == {A, B, C}
    stamps = [(await store.stat(manifest_key("org/a", commit))).modified_at for commit in commits]
    assert stamps == sorted(stamps, reverse=True)
    assert (await catalogue.find("org/a")).manifest.commit == commits[0]
    with pytest.raises(NoSuchModel):
        await catalogue.published("org/none")


async def test_a_ref_moves_only_to_what_is_published(store: MemoryStore, catalogue: Catalogue) -> None:
    await publish(store, catalogue, "org/a", MODEL)
    await publish(store, catalogue, "org/a", MODEL, commit=B, ref=None)
    await catalogue.move_ref("org/a", "prod", B)
    assert (await catalogue.find("org/a", "prod")).manifest.commit == B
    with pytest.raises(NoSuchModel):
        await catalogue.move_ref("org/a", "prod", C)
    # Remembered manifests do not count: the store has the last word.
    del store.objects[manifest_key("org/a", A)]
    with pytest.raises(NoSuchModel):
        await catalogue.move_ref("org/a", "prod", A)
    assert (await catalogue.refs("org/a"))["prod"] == B


async def test_without_its_last_ref_a_commit_still_answers(store: MemoryStore, catalogue: Catalogue) -> None:
    await publish(store, catalogue, "org/a", MODEL)
    await catalogue.delete_ref("org/a", "main")
    assert await catalogue.refs("org/a") == {}
    assert (await catalogue.find("org/a", A)).manifest.commit == A
    assert (await catalogue.find("org/a")).revision == A
    with pytest.raises(NoSuchRef, match="it has: none"):
        await catalogue.delete_ref("org/a", "main")


async def test_deleting_a_commit_takes_its_refs_and_leaves_the_others(
    store: MemoryStore, catalogue: Catalogue
) -> None:
    await publish(store, catalogue, "org/a", MODEL)
    await catalogue.point("org/a", "prod", A)
    await publish(store, catalogue, "org/a", MODEL, commit=B, ref="dev")
    await publish(store, catalogue, "org/a2", MODEL)
    deleted = await catalogue.delete("org/a", A)
    assert (deleted.commits, deleted.refs, deleted.objects) == ([A], ["main", "prod"], len(MODEL) + 3)
    assert [k.removeprefix("org/a/") for k in store.deletes[:3]] == [
        ".registry/refs/main",
        ".registry/refs/prod",
        f"{A}/.registry/manifest.json",
    ]
    assert await catalogue.refs("org/a") == {"dev": B}
    with pytest.raises(NoSuchModel):
        await catalogue.manifest("org/a", A)
    with pytest.raises(NoSuchModel, match=f"no commit {A} of"):
        await catalogue.delete("org/a", A)
    await catalogue.delete("org/a")
    assert await catalogue.ids() == ["org/a2"]


async def test_a_deletion_forgets_broken_off_uploads(store: MemoryStore, catalogue: Catalogue) -> None:
    await publish(store, catalogue, "org/a", MODEL)
    size = 2 * PART_BYTES
    for repo_id in ("org/a", "org/b"):
        key = f"{repo_id}/{B}/big"
        upload = await store.begin_upload(key, size_bytes=size, part_bytes=PART_BYTES)
        record = UploadRecord(path="big", size_bytes=size, part_bytes=PART_BYTES, upload_id=upload)
        await write_record(store, upload_key(repo_id, B, "big"), record)
    await catalogue.delete("org/a")
    assert [pending.key for pending in store.pending.values()] == [f"org/b/{B}/big"]


async def test_another_way_to_the_same_store_shares_what_is_remembered(
    store: MemoryStore, catalogue: Catalogue
) -> None:
    other = catalogue.over(store)
    await publish(store, other, "org/a", MODEL)
    await other.ids()
    assert catalogue.census == other.census
    store.down = True
    assert (await catalogue.manifest("org/a", A)).commit == A
    store.down = False
    await catalogue.delete("org/a")
    with pytest.raises(NoSuchModel):
        await other.manifest("org/a", A)


async def test_a_manifest_under_another_name_is_not_believed(
    store: MemoryStore, catalogue: Catalogue
) -> None:
    await publish(store, catalogue, "org/a", MODEL)
    store.objects[manifest_key("org/b", A)] = store.objects[manifest_key("org/a", A)]
    with pytest.raises(DamagedManifest):
        await catalogue.manifest("org/b", A)
    assert [m.id for m in await catalogue.models()] == ["org/a"]


async def test_hundreds_of_models_are_read_once_and_then_only_listed(tmp_path: Path) -> None:
    class CountingStore(FolderStore):
        reads: list[str]

        def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
            self.reads.append(key)
            return super().get(key, offset, length)

    store = CountingStore(tmp_path)
    store.reads = []
    await store.prepare()
    catalogue = Catalogue(store)
    for n in range(300):
        await publish(store, catalogue, f"org/model-{n}", {"x": b"1"})
    assert len(await Catalogue(store).models()) == 300
    store.reads.clear()
    assert len(await catalogue.models()) == 300
    assert len(store.reads) == 300
    assert all("/refs/" in key for key in store.reads)
    store.reads.clear()
    assert len(await catalogue.ids()) == 300
    assert store.reads == []


class SlowStore(MemoryStore):
    """Reads of manifests have their bytes, and then wait to be let on. `open` is how many do now."""

    def __init__(self) -> None:
        super().__init__()
        self.let_on = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)
        self.open = 0

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        data = b"".join([chunk async for chunk in super().get(key, offset, length)])
        if key.endswith("/manifest.json"):
            self.open += 1
            self.waiting.release()
            await self.let_on.wait()
        yield data


async def test_a_manifest_that_was_read_while_its_model_was_deleted_is_not_remembered() -> None:
    store = SlowStore()
    await publish(store, Catalogue(store), "org/a", MODEL)
    catalogue = Catalogue(store)
    reading = asyncio.create_task(catalogue.manifest("org/a", A))
    await store.waiting.acquire()
    await catalogue.delete("org/a")
    store.let_on.set()
    assert (await reading).commit == A
    with pytest.raises(NoSuchModel):
        await catalogue.manifest("org/a", A)


async def test_a_manifest_that_was_read_while_more_files_were_published_is_not_remembered() -> None:
    store = SlowStore()
    await publish(store, Catalogue(store), "org/a", {"x": b"1"})
    catalogue = Catalogue(store)
    reading = asyncio.create_task(catalogue.manifest("org/a", A))
    await store.waiting.acquire()
    await publish(store, catalogue, "org/a", {"x": b"1", "y": b"2"})
    store.let_on.set()
    assert [file.path for file in (await reading).files] == ["x"]
    assert [file.path for file in (await catalogue.manifest("org/a", A)).files] == ["x", "y"]


async def test_the_first_list_reads_several_manifests_at_once_but_not_all() -> None:
    store = SlowStore()
    for n in range(40):
        await publish(store, Catalogue(store), f"org/model-{n:02}", {"x": b"1"})
    listing = asyncio.create_task(Catalogue(store).models())
    async with asyncio.timeout(20):
        for _ in range(16):
            await store.waiting.acquire()
    await asyncio.sleep(0)
    assert store.open == 16
    store.let_on.set()
    assert [model.id for model in await listing] == [f"org/model-{n:02}" for n in range(40)]


async def test_a_ref_is_followed_without_listing_what_else_there_is() -> None:
    store = SlowStore()
    store.let_on.set()
    catalogue = Catalogue(store)
    await publish(store, catalogue, "org/a", MODEL)
    assert (await catalogue.named("org/a", "main")).commit == A
    assert (await catalogue.named("org/a", A)).commit == A
    for repo_id, revision in (("org/a", "dev"), ("org/a", B), ("org/b", "main")):
        with pytest.raises(NoSuchModel):
            await catalogue.named(repo_id, revision)
    assert (store.lists, store.open) == ([], 0)


async def test_what_a_ref_has_come_to_name_is_not_deleted_as_unnamed(
    store: MemoryStore, catalogue: Catalogue
) -> None:
    await publish(store, catalogue, "org/a", MODEL, ref=None)
    await catalogue.move_ref("org/a", "prod", A)
    with pytest.raises(StillNamed):
        await catalogue.delete("org/a", A, unless_named=True)
    assert (await catalogue.named("org/a", "prod")).commit == A


async def test_a_model_that_is_called_as_an_organisation_reads_nothing_of_the_others() -> None:
    store = MemoryStore()
    catalogue = Catalogue(store)
    await publish(store, catalogue, "org", MODEL, commit=B)
    await publish(store, catalogue, "org/a", MODEL)
    assert list((await catalogue.listing("org")).models) == ["org"]
    assert (await catalogue.find("org")).manifest.commit == B
    await catalogue.delete("org")
    assert await catalogue.ids() == ["org/a"]
