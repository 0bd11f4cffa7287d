"""Mirroring from a hub: whole and verified, or nothing visible, whatever the hub does."""

from collections.abc import AsyncGenerator, Iterator

import httpx
import pytest

from msp_common.contracts.jobs import DownloadRequest, JobState
from msp_registry.catalogue import Catalogue
from msp_registry.failures import (
    BadSnapshot,
    GatedNotAccepted,
    GatedNoToken,
    HubMisbehaved,
    HubUnreachable,
    JobFailure,
    NoSuchRepo,
    NoSuchRevision,
    NothingToStore,
    PickleOnly,
    QuotaExceeded,
    TokenRefused,
    WrongBytes,
)
from msp_registry.hub_client import TRIES, HubClient
from msp_registry.mirror import Mirror
from msp_registry.store import StoreUnavailable
from support.fake_hub import COMMIT, FakeHub, FakeRepo
from support.registry_files import tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress
from support.servers import free_port, run_server

MODEL = tiny_model(20_000)
WEIGHTS = "model.safetensors"


class Mirroring:
    """A mirror of a fake hub into a store in memory."""

    def __init__(self, hub: FakeHub, endpoint: str, client: httpx.AsyncClient) -> None:
        self.hub = hub
        self.endpoint = endpoint
        self.client = client
        self.store = MemoryStore()
        self.catalogue = Catalogue(self.store)
        self.waits: list[float] = []
        self.quota_bytes: int | None = None
        self.token: str | None = None

    async def bring(self, repo_id: str = "org/tiny", **request: object) -> ToldProgress:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        hub = HubClient(self.endpoint, self.token, self.client, sleep)
        mirror = Mirror(hub, self.store, self.catalogue, quota_bytes=self.quota_bytes)
        progress = ToldProgress()
        await mirror.bring(repo_id, DownloadRequest.model_validate(request), progress)
        return progress

    def stored(self) -> dict[str, bytes]:
        prefix = f"org/tiny/{COMMIT}/"
        return {
            k.removeprefix(prefix): v
            for k, v in self.store.objects.items()
            if k.startswith(prefix) and "/.registry/" not in k
        }


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub({"org/tiny": FakeRepo(dict(MODEL))})


@pytest.fixture
def endpoint(hub: FakeHub) -> Iterator[str]:
    with run_server(hub.app) as url:
        yield url


@pytest.fixture
async def mirroring(hub: FakeHub, endpoint: str) -> AsyncGenerator[Mirroring, None]:
    async with httpx.AsyncClient(timeout=5) as client:
        yield Mirroring(hub, endpoint, client)


async def test_a_snapshot_arrives_whole_and_its_manifest_says_what_it_is(mirroring: Mirroring) -> None:
    progress = await mirroring.bring()
    assert mirroring.stored() == MODEL
    found = await mirroring.catalogue.find("org/tiny")
    manifest = found.manifest
    assert (manifest.commit, manifest.revision, found.refs) == (COMMIT, "main", {"main": COMMIT})
    assert (manifest.source, manifest.format, manifest.dtype) == (mirroring.endpoint, "safetensors", "F32")
    assert (manifest.parameters, manifest.licence.id) == (20_000, "apache-2.0")
    assert {f.path: f.lfs for f in manifest.files}[WEIGHTS] is True
    assert (
        manifest.total_bytes == progress.bytes_done == progress.bytes_total == sum(map(len, MODEL.values()))
    )
    assert progress.files_done == len(MODEL)
    assert progress.states == [
        JobState.RESOLVING,
        JobState.DOWNLOADING,
        JobState.VERIFYING,
        JobState.PUBLISHING,
    ]


async def test_the_manifest_is_written_after_all_files_and_before_the_ref(mirroring: Mirroring) -> None:
    await mirroring.bring()
    assert mirroring.store.puts[-2:] == [
        f"org/tiny/{COMMIT}/.registry/manifest.json",
        "org/tiny/.registry/refs/main",
    ]
    assert len(mirroring.store.puts) == len(MODEL) + 2


@pytest.mark.parametrize("page_size", [1, 2, 5])
async def test_all_pages_of_the_tree_are_read(mirroring: Mirroring, page_size: int) -> None:
    mirroring.hub.page_size = page_size
    await mirroring.bring()
    assert mirroring.stored() == MODEL


async def test_pages_are_asked_of_the_endpoint_though_links_name_another_host(
    mirroring: Mirroring,
) -> None:
    mirroring.hub.page_size = 2
    mirroring.hub.link_host = "https://elsewhere.invalid"
    await mirroring.bring()
    assert mirroring.stored() == MODEL


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
async def test_a_wrong_byte_leaves_nothing_visible(mirroring: Mirroring, path: str) -> None:
    mirroring.hub.wrong_bytes = {path}
    with pytest.raises(WrongBytes, match=path):
        await mirroring.bring()
    assert path not in mirroring.stored()
    assert mirroring.store.visible() == set()


async def test_what_was_stored_before_a_failure_is_not_fetched_again(mirroring: Mirroring) -> None:
    mirroring.hub.wrong_bytes = {WEIGHTS}
    with pytest.raises(WrongBytes):
        await mirroring.bring()
    mirroring.hub.wrong_bytes = set()
    progress = await mirroring.bring()
    assert mirroring.stored() == MODEL
    assert len(mirroring.hub.ranges_of("/README.md")) == 1
    assert progress.bytes_done == progress.bytes_total


async def test_an_object_that_rotted_before_publishing_is_fetched_again(mirroring: Mirroring) -> None:
    key = f"org/tiny/{COMMIT}/{WEIGHTS}"
    mirroring.store.objects[key] = bytes(len(MODEL[WEIGHTS]))
    await mirroring.bring()
    assert mirroring.stored() == MODEL


async def test_a_body_that_breaks_off_goes_on_where_it_stopped(mirroring: Mirroring) -> None:
    mirroring.hub.cut_after = 30_000
    progress = await mirroring.bring()
    assert mirroring.stored() == MODEL
    asked = mirroring.hub.ranges_of(WEIGHTS)
    assert asked[0] is None
    assert asked[1:] == ["bytes=30000-", "bytes=60000-"]
    assert progress.bytes_done == progress.bytes_total


async def test_a_server_that_ignores_range_is_skipped_through(mirroring: Mirroring) -> None:
    mirroring.hub.cut_after, mirroring.hub.ignore_range = 30_000, True
    with pytest.raises(HubUnreachable, match=f"broke off {TRIES} times at byte 30000"):
        await mirroring.bring()
    assert mirroring.store.visible() == set()
    mirroring.hub.seen.clear()
    mirroring.waits.clear()

    async def heal(seconds: float) -> None:
        mirroring.hub.cut_after = None

    progress = ToldProgress()
    client = HubClient(mirroring.endpoint, None, mirroring.client, heal)
    await Mirror(client, mirroring.store, mirroring.catalogue).bring("org/tiny", DownloadRequest(), progress)
    assert mirroring.stored() == MODEL
    assert mirroring.hub.ranges_of(WEIGHTS) == [None, "bytes=30000-"]


async def test_a_body_that_never_gets_further_is_given_up(mirroring: Mirroring) -> None:
    mirroring.hub.cut_after = 0
    with pytest.raises(HubUnreachable, match="broke off") as failure:
        await mirroring.bring()
    assert failure.value.retryable
    assert len(mirroring.hub.ranges_of(WEIGHTS)) == TRIES
    assert mirroring.store.visible() == set()


async def test_the_token_stays_with_its_origin(mirroring: Mirroring, hub: FakeHub) -> None:
    hub.accepted_token = mirroring.token = "hf_secret"
    other = FakeHub(hub.repos)
    with run_server(other.app) as second_origin:
        hub.second_origin = second_origin
        await mirroring.bring()
    assert mirroring.stored() == MODEL
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_secret"}
    assert [(seen.path, seen.authorization) for seen in other.seen] == [(f"/cdn/org/tiny/{WEIGHTS}", None)]


async def test_a_busy_hub_is_asked_again_when_it_says(mirroring: Mirroring) -> None:
    mirroring.hub.busy = [429, 503]
    await mirroring.bring()
    assert mirroring.stored() == MODEL
    assert mirroring.waits == [7.0, 7.0]


async def test_a_hub_that_stays_busy_is_given_up(mirroring: Mirroring) -> None:
    mirroring.hub.busy = [503] * TRIES
    with pytest.raises(HubUnreachable, match="HTTP 503; tried 5 times"):
        await mirroring.bring()


@pytest.mark.parametrize(
    ("repo_id", "revision", "gated", "token", "failure", "hint"),
    [
        ("org/none", "main", False, None, NoSuchRepo, "set HF_TOKEN"),
        ("org/none", "main", False, "hf_good", NoSuchRepo, "no model org/none"),
        ("org/tiny", "v9", False, None, NoSuchRevision, "'v9'"),
        ("org/tiny", "main", True, None, GatedNoToken, "no token is set"),
        ("org/tiny", "main", True, "hf_other", GatedNotAccepted, "not been granted"),
        ("org/tiny", "main", False, "hf_bad", TokenRefused, "Invalid credentials"),
    ],
)
async def test_each_refusal_has_its_own_name(
    mirroring: Mirroring,
    repo_id: str,
    revision: str,
    gated: bool,
    token: str | None,
    failure: type[JobFailure],
    hint: str,
) -> None:
    mirroring.hub.accepted_token = "hf_good"
    mirroring.hub.repos["org/tiny"].gated = gated
    mirroring.token = token
    with pytest.raises(failure, match=hint) as refused:
        await mirroring.bring(repo_id, revision=revision)
    assert not refused.value.retryable
    assert "hf_" not in str(refused.value)
    assert mirroring.store.objects == {}


async def test_a_gated_model_comes_with_the_right_token(mirroring: Mirroring) -> None:
    mirroring.hub.accepted_token = mirroring.token = "hf_good"
    mirroring.hub.repos["org/tiny"].gated = True
    await mirroring.bring()
    assert (await mirroring.catalogue.find("org/tiny")).manifest.gated


async def test_no_connection_is_told_from_all_else(mirroring: Mirroring) -> None:
    mirroring.endpoint = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(HubUnreachable, match="ConnectError") as failure:
        await mirroring.bring()
    assert failure.value.retryable
    assert mirroring.waits == [0.5, 1.0, 2.0, 4.0]


async def test_something_that_is_no_hub_is_named(mirroring: Mirroring) -> None:
    mirroring.hub.repos["org/tiny"].refs["main"] = "not a commit"
    with pytest.raises(HubMisbehaved, match="names no commit"):
        await mirroring.bring()


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a\0b", ".registry/manifest.json", "config.json/x"]
)
async def test_hostile_paths_are_refused_before_the_first_byte(mirroring: Mirroring, path: str) -> None:
    mirroring.hub.extra_entries = [{"type": "file", "path": path, "size": 1, "oid": "2" * 40}]
    with pytest.raises(HubMisbehaved, match="cannot be stored"):
        await mirroring.bring()
    assert mirroring.store.objects == {}


@pytest.mark.parametrize(
    "entry", [{"size": 1, "oid": "2"}, {"path": "x", "oid": "2"}, {"path": "x", "size": -1}]
)
async def test_a_tree_that_makes_no_sense_is_refused(mirroring: Mirroring, entry: dict[str, object]) -> None:
    mirroring.hub.extra_entries = [{"type": "file", **entry}]
    with pytest.raises(HubMisbehaved, match="without path, size or hash"):
        await mirroring.bring()


async def test_weights_that_are_a_web_page_are_not_published(mirroring: Mirroring) -> None:
    mirroring.hub.repos["org/tiny"].files[WEIGHTS] = b"<!doctype html>" * 100
    with pytest.raises(BadSnapshot, match=r"model\.safetensors is not a whole safetensors file"):
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
    files = mirroring.hub.repos["org/tiny"].files
    files["pytorch_model.bin"] = b"pickle"
    await mirroring.bring()
    assert "pytorch_model.bin" not in mirroring.stored()
    del files[WEIGHTS]
    mirroring.hub.repos["org/tiny"].commit = mirroring.hub.repos["org/tiny"].refs["main"] = "a" * 40
    with pytest.raises(PickleOnly, match="allow_pickle=true"):
        await mirroring.bring()
    await mirroring.bring(allow_pickle=True)
    assert (await mirroring.catalogue.find("org/tiny")).manifest.format == "pickle"


async def test_a_known_commit_costs_no_bytes_and_moves_the_ref(mirroring: Mirroring) -> None:
    await mirroring.bring()
    mirroring.hub.repos["org/tiny"].refs["refs/pr/1"] = COMMIT
    mirroring.hub.seen.clear()
    progress = await mirroring.bring(revision="refs/pr/1")
    assert mirroring.hub.ranges_of("") == []
    assert progress.bytes_done == progress.bytes_total
    assert (await mirroring.catalogue.find("org/tiny", "refs/pr/1")).manifest.commit == COMMIT


async def test_a_commit_can_be_asked_for_and_makes_no_ref(mirroring: Mirroring) -> None:
    await mirroring.bring(revision=COMMIT)
    found = await mirroring.catalogue.find("org/tiny")
    assert (found.refs, found.revision) == ({}, COMMIT)


async def test_a_snapshot_above_the_quota_is_refused_with_both_numbers(mirroring: Mirroring) -> None:
    mirroring.quota_bytes = 50_000
    total = sum(map(len, MODEL.values()))
    with pytest.raises(QuotaExceeded, match=rf"{total} bytes do not fit: 0 of REGISTRY_QUOTA_BYTES=50000"):
        await mirroring.bring()
    assert mirroring.store.objects == {}


async def test_a_store_that_goes_away_is_not_the_hubs_fault(mirroring: Mirroring) -> None:
    mirroring.store.down = True
    with pytest.raises(StoreUnavailable):
        await mirroring.bring()
