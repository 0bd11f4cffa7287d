"""Mirroring from a hub: what is taken and told, what is not fetched twice, what is refused beforehand."""

import hashlib

import pytest

from msp_common.contracts.jobs import JobState
from msp_registry.failures import (
    BadSnapshot,
    GatedNotAccepted,
    GatedNoToken,
    HubMisbehaved,
    HubUnreachable,
    JobFailure,
    NoSuchRepo,
    NoSuchRevision,
    NotEnoughSpace,
    NothingToStore,
    NotRepairable,
    PickleOnly,
    QuotaExceeded,
    RepoDisabled,
    TokenRefused,
    WrongBytes,
)
from support.fake_hub import COMMIT, FakeHub
from support.registry_files import safetensors, tiny_model
from support.registry_mirroring import NOW, PART, Mirroring
from support.registry_progress import ToldProgress
from support.servers import free_port, run_server

MODEL = tiny_model(20_000)
TOTAL = sum(map(len, MODEL.values()))
WEIGHTS = "model.safetensors"
VISIBLE = {f"org/tiny/{COMMIT}/.registry/manifest.json", "org/tiny/.registry/refs/main"}
OTHER = "a" * 40


async def test_a_snapshot_arrives_whole_and_its_manifest_says_what_it_is(mirroring: Mirroring) -> None:
    mirroring.hub.repos["org/tiny"].info = {"pipeline_tag": "text-generation", "tags": ["tiny"]}
    progress = await mirroring.bring()
    assert mirroring.stored() == MODEL
    found = await mirroring.catalogue.find("org/tiny")
    manifest = found.manifest
    assert (manifest.commit, manifest.revision, found.refs) == (COMMIT, "main", {"main": COMMIT})
    assert (manifest.source, manifest.format, manifest.dtype) == (mirroring.endpoint, "safetensors", "F32")
    assert (manifest.parameters, manifest.licence.id, manifest.mirrored_at) == (20_000, "apache-2.0", NOW)
    assert manifest.hub is not None
    assert (manifest.hub.pipeline_tag, manifest.hub.tags) == ("text-generation", ["tiny"])
    assert {f.path: f.lfs for f in manifest.files}[WEIGHTS] is True
    assert manifest.total_bytes == progress.bytes_done == sum(progress.moved_bytes.values()) == TOTAL
    assert progress.expected == {path: len(data) for path, data in MODEL.items()}
    assert sorted(progress.done) == sorted(MODEL)
    assert (progress.commit, progress.states) == (
        COMMIT,
        [JobState.RESOLVING, JobState.DOWNLOADING, JobState.VERIFYING, JobState.PUBLISHING],
    )


async def test_the_manifest_names_the_hashes_of_the_licence_texts(mirroring: Mirroring) -> None:
    mirroring.hub.repos["org/tiny"].files["LICENSE"] = b"Do as you like."
    await mirroring.bring()
    manifest = (await mirroring.catalogue.find("org/tiny")).manifest
    assert manifest.licence.text_sha256 == {"LICENSE": hashlib.sha256(b"Do as you like.").hexdigest()}


async def test_the_manifest_is_written_after_all_files_and_before_the_ref(mirroring: Mirroring) -> None:
    await mirroring.bring()
    keys = [key for key in mirroring.store.puts if "/uploads/" not in key]
    assert keys[-2:] == [
        f"org/tiny/{COMMIT}/.registry/manifest.json",
        "org/tiny/.registry/refs/main",
    ]
    assert len(keys) == len(MODEL) + 2


async def test_nothing_but_the_snapshot_is_left_in_the_store(mirroring: Mirroring) -> None:
    await mirroring.bring()
    assert set(mirroring.store.objects) == {*(f"org/tiny/{COMMIT}/{path}" for path in MODEL), *VISIBLE}
    assert mirroring.store.pending == {}


async def test_every_byte_is_fetched_once(mirroring: Mirroring) -> None:
    await mirroring.bring()
    assert mirroring.hub.sent_bytes == TOTAL + 1  # the probe's


async def test_ranges_are_asked_for_side_by_side(mirroring: Mirroring) -> None:
    await mirroring.bring(allow_patterns=[WEIGHTS])
    size = len(MODEL[WEIGHTS])
    assert sorted(mirroring.hub.ranges_of(WEIGHTS), key=str) == sorted(
        f"bytes={start}-{min(start + PART, size) - 1}" for start in range(0, size, PART)
    )


async def test_after_a_failure_only_what_is_missing_is_fetched(mirroring: Mirroring) -> None:
    mirroring.hub.dead_after = 2 * PART
    with pytest.raises(HubUnreachable, match="HTTP 503"):
        await mirroring.bring()
    assert mirroring.store.visible() == set()
    parts = sum(len(part) for upload in mirroring.store.pending.values() for part in upload.parts.values())
    whole = sum(map(len, mirroring.stored().values()))
    assert parts >= PART
    again = FakeHub(mirroring.hub.repos)
    with run_server(again.app) as mirroring.endpoint:
        progress = await mirroring.bring()
    assert mirroring.stored() == MODEL
    assert again.sent_bytes == TOTAL - parts - whole + 1
    assert progress.bytes_done == sum(progress.moved_bytes.values()) == TOTAL


async def test_an_object_that_rotted_before_publishing_is_fetched_again(mirroring: Mirroring) -> None:
    mirroring.store.objects[f"org/tiny/{COMMIT}/{WEIGHTS}"] = bytes(len(MODEL[WEIGHTS]))
    await mirroring.bring()
    assert mirroring.stored() == MODEL


@pytest.mark.parametrize(
    ("repo_id", "revision", "state", "token", "failure", "hint"),
    [
        ("org/none", "main", "open", None, NoSuchRepo, "set HF_TOKEN"),
        ("org/none", "main", "open", "hf_good", NoSuchRepo, "no model org/none"),
        ("org/tiny", "main", "private", None, NoSuchRepo, "set HF_TOKEN"),
        ("org/tiny", "v9", "open", None, NoSuchRevision, "'v9'"),
        ("org/tiny", "main", "gated", None, GatedNoToken, "no token is set"),
        ("org/tiny", "main", "gated", "hf_other", GatedNotAccepted, "not been granted"),
        ("org/tiny", "main", "disabled", None, RepoDisabled, "nobody can download it"),
        ("org/tiny", "main", "open", "hf_bad", TokenRefused, "Invalid credentials"),
    ],
)
async def test_each_refusal_has_its_own_name_and_comes_before_the_first_byte(
    mirroring: Mirroring,
    repo_id: str,
    revision: str,
    state: str,
    token: str | None,
    failure: type[JobFailure],
    hint: str,
) -> None:
    mirroring.hub.accepted_token = "hf_good"
    if state != "open":
        setattr(mirroring.hub.repos["org/tiny"], state, True)
    mirroring.token = token
    with pytest.raises(failure, match=hint) as refused:
        await mirroring.bring(repo_id, revision=revision)
    assert not refused.value.retryable
    assert "hf_" not in str(refused.value)
    assert mirroring.store.objects == {}
    assert mirroring.progress.states == [JobState.RESOLVING]


@pytest.mark.parametrize("state", ["gated", "private"])
async def test_a_closed_model_comes_with_the_right_token(mirroring: Mirroring, state: str) -> None:
    mirroring.hub.accepted_token = mirroring.token = "hf_good"
    setattr(mirroring.hub.repos["org/tiny"], state, True)
    await mirroring.bring()
    record = (await mirroring.catalogue.find("org/tiny")).manifest.hub
    assert record is not None
    assert (record.gated, record.private) == (("auto", False) if state == "gated" else (False, True))


async def test_no_connection_is_told_from_all_else(mirroring: Mirroring) -> None:
    mirroring.endpoint = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(HubUnreachable, match="ConnectError") as failure:
        await mirroring.bring()
    assert failure.value.retryable
    assert mirroring.clock.waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a\0b", ".registry/manifest.json", "config.json/x"]
)
async def test_hostile_paths_are_refused_before_the_first_byte(mirroring: Mirroring, path: str) -> None:
    mirroring.hub.extra_entries = [{"type": "file", "path": path, "size": 1, "oid": "2" * 40}]
    with pytest.raises(HubMisbehaved, match="cannot be stored"):
        await mirroring.bring()
    assert mirroring.store.objects == {}


async def test_weights_that_are_a_web_page_are_not_published(mirroring: Mirroring) -> None:
    mirroring.hub.repos["org/tiny"].files[WEIGHTS] = b"<!doctype html>" * 100
    with pytest.raises(BadSnapshot, match=r"model\.safetensors"):
        await mirroring.bring()
    assert mirroring.store.visible() == set()


async def test_patterns_choose_and_a_second_request_adds_to_the_snapshot(mirroring: Mirroring) -> None:
    await mirroring.bring(allow_patterns=["*.json"])
    assert set(mirroring.stored()) == {"config.json", "1_Pooling/config.json"}
    await mirroring.bring(allow_patterns=["*.safetensors", "*.md"], ignore_patterns=["README*"])
    manifest = (await mirroring.catalogue.find("org/tiny")).manifest
    assert {f.path for f in manifest.files} == {"config.json", "1_Pooling/config.json", WEIGHTS}
    with pytest.raises(NothingToStore, match=r"\*\.nothing"):
        await mirroring.bring(allow_patterns=["*.nothing"])


async def test_pickle_is_taken_only_when_it_is_asked_for(mirroring: Mirroring) -> None:
    repo = mirroring.hub.repos["org/tiny"]
    repo.files["pytorch_model.bin"] = b"pickle"
    await mirroring.bring()
    assert "pytorch_model.bin" not in mirroring.stored()
    del repo.files[WEIGHTS]
    repo.commit = repo.refs["main"] = OTHER
    with pytest.raises(PickleOnly, match="allow_pickle=true"):
        await mirroring.bring()
    await mirroring.bring(allow_pickle=True)
    assert (await mirroring.catalogue.find("org/tiny")).manifest.format == "pickle"


async def test_a_known_commit_costs_no_bytes_and_moves_the_ref(mirroring: Mirroring) -> None:
    await mirroring.bring()
    mirroring.hub.repos["org/tiny"].refs["refs/pr/1"] = COMMIT
    mirroring.hub.sent.clear()
    mirroring.store.puts.clear()
    progress = await mirroring.bring(revision="refs/pr/1")
    assert mirroring.hub.sent_bytes == 0
    assert mirroring.store.puts == ["org/tiny/.registry/refs/refs%2Fpr%2F1"]
    assert progress.bytes_done == TOTAL
    assert (await mirroring.catalogue.find("org/tiny", "refs/pr/1")).manifest.commit == COMMIT


async def test_a_commit_can_be_asked_for_and_makes_no_ref(mirroring: Mirroring) -> None:
    await mirroring.bring(revision=COMMIT)
    found = await mirroring.catalogue.find("org/tiny")
    assert (found.refs, found.revision) == ({}, COMMIT)


async def test_a_branch_that_moves_meanwhile_mixes_no_commits(mirroring: Mirroring) -> None:
    repo = mirroring.hub.repos["org/tiny"]
    repo.others[OTHER] = {**MODEL, WEIGHTS: safetensors(10_000), "new.json": b"{}"}
    repo.main_moves_to = [OTHER]
    await mirroring.bring()
    assert mirroring.stored() == MODEL
    assert (await mirroring.catalogue.find("org/tiny")).refs == {"main": COMMIT}
    await mirroring.bring()
    assert mirroring.stored(commit=OTHER) == repo.others[OTHER]
    assert (await mirroring.catalogue.find("org/tiny")).refs == {"main": OTHER}
    assert mirroring.stored() == MODEL


async def test_a_snapshot_above_the_quota_is_refused_with_both_numbers(mirroring: Mirroring) -> None:
    mirroring.quota_bytes = 50_000
    with pytest.raises(QuotaExceeded, match=rf"{TOTAL} bytes do not fit: 0 of REGISTRY_QUOTA_BYTES=50000"):
        await mirroring.bring()
    assert mirroring.store.objects == {}
    assert mirroring.hub.sent_bytes == 1


async def test_a_snapshot_that_has_no_room_is_refused_with_both_numbers(mirroring: Mirroring) -> None:
    mirroring.store.free = TOTAL - 1
    with pytest.raises(
        NotEnoughSpace, match=rf"{TOTAL} bytes are missing and the store has {TOTAL - 1} bytes"
    ):
        await mirroring.bring()
    assert mirroring.store.objects == {}
    mirroring.store.free = TOTAL
    await mirroring.bring()
    assert mirroring.stored() == MODEL


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
async def test_a_bad_file_is_repaired_alone(mirroring: Mirroring, path: str) -> None:
    await mirroring.bring()
    manifest = (await mirroring.catalogue.find("org/tiny")).manifest
    key = f"org/tiny/{COMMIT}/{path}"
    mirroring.store.objects[key] = bytes(len(MODEL[path]))
    before = {k: v for k, v in mirroring.store.objects.items() if k != key}
    mirroring.hub.sent.clear()
    progress = ToldProgress()
    bad = [file for file in manifest.files if file.path == path]
    await mirroring.mirror().repair(manifest, bad, progress)
    assert mirroring.stored() == MODEL
    assert mirroring.store.objects == {**before, key: MODEL[path]}
    assert dict(mirroring.hub.sent) == {path: len(MODEL[path])}
    assert progress.done == [path]


async def test_a_repair_is_compared_with_the_manifest_not_with_what_the_hub_has_today(
    mirroring: Mirroring,
) -> None:
    await mirroring.bring()
    manifest = (await mirroring.catalogue.find("org/tiny")).manifest
    mirroring.hub.repos["org/tiny"].files["config.json"] = b'{"model_type": "evil"}'
    with pytest.raises(WrongBytes, match=r"config\.json"):
        await mirroring.mirror().repair(manifest, manifest.files, ToldProgress())
    assert mirroring.stored() == MODEL


async def test_what_came_from_elsewhere_is_not_repaired_from_the_hub(mirroring: Mirroring) -> None:
    await mirroring.bring()
    manifest = (await mirroring.catalogue.find("org/tiny")).manifest.model_copy(update={"source": "folder"})
    with pytest.raises(NotRepairable, match="came from 'folder'"):
        await mirroring.mirror().repair(manifest, manifest.files, ToldProgress())
