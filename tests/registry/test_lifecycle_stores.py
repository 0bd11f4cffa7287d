"""What lives and goes in real stores: collected and deleted alike in a folder, MinIO and versitygw."""

import time
from pathlib import Path

import pytest

from msp_common.contracts.jobs import VerifyRequest
from msp_common.contracts.models import GcRequest
from msp_registry.layout import upload_key
from msp_registry.stores.store import PART_BYTES, ObjectStore
from msp_registry.transfers.upload_record import UploadRecord, write_record
from support.registry_files import COMMITS, tiny_model
from support.registry_parts import RegistryParts
from support.registry_progress import ToldProgress
from support.registry_stores import KINDS, keys, new_store

A, B, C = COMMITS
MODEL = tiny_model()
SIZE = PART_BYTES + 1


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    made = new_store(request.param, request, tmp_path)
    await made.prepare()
    return made


async def broken_off(store: ObjectStore, commit: str, *, noted: bool) -> None:
    key = f"org/a/{commit}/big"
    upload_id = await store.begin_upload(key, size_bytes=SIZE, part_bytes=PART_BYTES)
    await store.put_part(key, upload_id, 2, b"x")
    if noted:
        record = UploadRecord(path="big", size_bytes=SIZE, part_bytes=PART_BYTES, upload_id=upload_id)
        await write_record(store, upload_key("org/a", commit, "big"), record)


async def test_what_was_broken_off_is_collected_and_the_model_stays_whole(store: ObjectStore) -> None:
    parts = RegistryParts(store)
    await parts.publish("org/a", MODEL)
    before = await keys(store)
    await broken_off(store, A, noted=True)
    await broken_off(store, B, noted=True)
    await broken_off(store, C, noted=False)
    parts.now = time.time() + 100_000
    report = await parts.collector.collect(GcRequest(dry_run=False))
    assert [(item.kind, item.name) for item in report.items] == [
        ("upload", f"org/a/{A}/big"),
        ("unpublished", f"org/a@{B}"),
        ("unpublished", f"org/a@{C}"),
    ]
    assert [pending async for pending in store.uploads("")] == []
    assert await keys(store) == before
    await parts.verifier.verify("org/a", VerifyRequest(), ToldProgress())


async def test_refs_move_and_a_deleted_commit_leaves_nothing(store: ObjectStore) -> None:
    parts = RegistryParts(store)
    await parts.publish("org/a", MODEL)
    await parts.publish("org/a", MODEL, commit=B, ref="dev")
    await parts.catalogue.move_ref("org/a", "team/prod", B)
    await parts.quarantine.put("org/a", B, {"config.json": "wrong"})
    (listed,) = await parts.catalogue.models()
    assert listed.refs == {"dev": B, "main": A, "team/prod": B}
    await broken_off(store, B, noted=True)
    deleted = await parts.catalogue.delete("org/a", B)
    assert (deleted.commits, deleted.refs) == ([B], ["dev", "team/prod"])
    assert [key for key in await keys(store) if B in key or "prod" in key] == []
    assert [pending async for pending in store.uploads("")] == []
    assert await parts.catalogue.refs("org/a") == {"main": A}
