"""Whatever a hub does: the store holds the whole verified snapshot, or nothing that can be seen."""

from collections.abc import Callable

import pytest

from msp_registry.failures import HubMisbehaved, HubUnreachable, JobFailure, RateLimited, WrongBytes
from msp_registry.stores.store import Part, StoreFull, StoreUnavailable
from support.fake_hub import COMMIT, FakeHub
from support.registry_files import tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_mirroring import Mirroring
from support.servers import run_server

MODEL = tiny_model(20_000)
TOTAL = sum(map(len, MODEL.values()))
WEIGHTS = "model.safetensors"
SIZE = len(MODEL[WEIGHTS])
VISIBLE = {f"org/tiny/{COMMIT}/.registry/manifest.json", "org/tiny/.registry/refs/main"}
FOR_EVER = 10_000


def knobs(**values: object) -> Callable[[FakeHub], None]:
    def turn(hub: FakeHub) -> None:
        for name, value in values.items():
            setattr(hub, name, value)

    return turn


OVERCOME = {
    "pages of three entries": knobs(page_size=3),
    "small files by another address": knobs(resolve_cache=True),
    "offers of the other protocol": knobs(xet=True),
    "bodies cut once": knobs(cut_after=7_000, cuts_left=1),
    "bodies cut every time": knobs(cut_after=7_000),
    "no ranges": knobs(ignore_range=True),
    "no ranges, and the body cut once": knobs(ignore_range=True, cut_after=30_000, cuts_left=1),
    "a wrong byte once": knobs(wrong_bytes={WEIGHTS}, wrong_left=1),
    "a wrong byte of a small file once": knobs(wrong_bytes={"config.json"}, wrong_left=1),
    "another range once": knobs(other_ranges_left=1),
    "busy with a time": knobs(busy=[429, 503, 429]),
    "busy without a time": knobs(busy=[429, 503], busy_headers={}),
    "busy by RateLimit": knobs(busy=[429], busy_headers={"RateLimit": '"resolvers";r=0;t=20'}),
    "busy files": knobs(busy=[503, 503, 429], busy_paths="/resolve/"),
    "errors of the server": knobs(busy=[500, 502, 504, 500], busy_paths="/tree/", busy_headers={}),
    "the last request allowed": knobs(rate_limits=['"api";r=0;t=9', '"api";r=0;t=9']),
    "a slow first byte": knobs(slow_left=2),
    "a stall in the body": knobs(stall_after=5_000, stalls_left=2),
}

DEFEATED: dict[str, tuple[Callable[[FakeHub], None], type[JobFailure], str]] = {
    "wrong bytes": (knobs(wrong_bytes={WEIGHTS}), WrongBytes, "sha256 is"),
    "wrong bytes of a small file": (knobs(wrong_bytes={"config.json"}), WrongBytes, "git sha1 is"),
    "bodies without a byte": (knobs(cut_after=0), HubUnreachable, "broke off 5 times"),
    "no ranges, and the body always cut": (
        knobs(ignore_range=True, cut_after=30_000),
        HubUnreachable,
        "broke off 5 times at byte 30000",
    ),
    "another range every time": (knobs(other_ranges_left=FOR_EVER), HubMisbehaved, "were asked for"),
    "a size header that lies": (
        knobs(told_sizes={WEIGHTS: SIZE + 1}),
        WrongBytes,
        f"list says {SIZE} bytes, its file has {SIZE + 1} bytes",
    ),
    "a tree whose size is too small": (
        knobs(tree_sizes={WEIGHTS: SIZE - 1}),
        WrongBytes,
        f"list says {SIZE - 1} bytes, its file has {SIZE} bytes",
    ),
    "a tree whose size is too large": (
        knobs(tree_sizes={WEIGHTS: SIZE + 90_000}),
        WrongBytes,
        f"list says {SIZE + 90_000} bytes, its file has {SIZE} bytes",
    ),
    "a tree that lies of a small file": (
        knobs(tree_sizes={"config.json": 5}),
        WrongBytes,
        "list says 5 bytes",
    ),
    "busy for ever": (knobs(busy=[503] * FOR_EVER, busy_paths="/resolve/"), HubUnreachable, "HTTP 503"),
    "busy for hours": (
        knobs(busy=[429], busy_headers={"Retry-After": "86400"}),
        RateLimited,
        "asks to wait 86400 s",
    ),
    "compressed files": (knobs(content_encoding="gzip"), HubMisbehaved, "compressed"),
}


def assert_whole(mirroring: Mirroring) -> None:
    assert mirroring.stored() == MODEL
    assert mirroring.store.visible() == VISIBLE
    assert mirroring.store.pending == {}
    assert [key for key in mirroring.store.objects if "/uploads/" in key] == []
    assert mirroring.progress.bytes_done == sum(mirroring.progress.moved_bytes.values()) == TOTAL


def assert_nothing_seen_and_nothing_wrong(mirroring: Mirroring) -> None:
    assert mirroring.store.visible() == set()
    for path, data in mirroring.stored().items():
        assert data == MODEL[path]


@pytest.mark.parametrize("fault", OVERCOME)
async def test_a_fault_that_can_be_overcome_is(mirroring: Mirroring, fault: str) -> None:
    OVERCOME[fault](mirroring.hub)
    if mirroring.hub.slow_left or mirroring.hub.stalls_left:
        mirroring.stall_timeout_s = 0.5
    await mirroring.bring()
    assert_whole(mirroring)


@pytest.mark.parametrize("fault", DEFEATED)
async def test_a_fault_that_cannot_leaves_nothing_visible_and_the_next_try_succeeds(
    mirroring: Mirroring, fault: str
) -> None:
    turn, failure, hint = DEFEATED[fault]
    healthy = dict(vars(FakeHub()))
    turn(mirroring.hub)
    with pytest.raises(failure, match=hint):
        await mirroring.bring()
    assert_nothing_seen_and_nothing_wrong(mirroring)
    for name in ("wrong_bytes", "cut_after", "ignore_range", "other_ranges_left", "told_sizes", "tree_sizes"):
        setattr(mirroring.hub, name, healthy[name])
    mirroring.hub.busy, mirroring.hub.content_encoding = [], None
    await mirroring.bring()
    assert_whole(mirroring)


async def test_a_second_origin_is_never_shown_the_token(mirroring: Mirroring, hub: FakeHub) -> None:
    hub.accepted_token = mirroring.token = "hf_secret"
    other = FakeHub(hub.repos, cut_after=7_000)
    with run_server(other.app) as hub.second_origin:
        await mirroring.bring()
    assert_whole(mirroring)
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_secret"}
    assert {seen.authorization for seen in other.seen} == {None}


async def test_signatures_that_end_on_the_way_are_renewed(mirroring: Mirroring, hub: FakeHub) -> None:
    other = FakeHub(hub.repos, signature_uses=2)
    with run_server(other.app) as hub.second_origin:
        await mirroring.bring()
    assert_whole(mirroring)
    assert mirroring.clock.waits == []


@pytest.mark.parametrize("error", [StoreFull, StoreUnavailable])
@pytest.mark.parametrize("at", ["part", "object", "manifest", "ref"])
async def test_a_store_that_fails_shows_no_half_snapshot(
    mirroring: Mirroring, error: type[Exception], at: str
) -> None:
    class Failing(MemoryStore):
        failing = True

        async def put(self, key: str, data: bytes) -> None:
            kind = "manifest" if key.endswith("manifest.json") else "ref" if "/refs/" in key else "object"
            if self.failing and at == kind:
                raise error("no room")
            await super().put(key, data)

        async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
            if self.failing and at == "part" and number == 3:
                raise error("no room")
            return await super().put_part(key, upload_id, number, data)

    store = Failing()
    mirroring.use(store)
    with pytest.raises(error, match="no room"):
        await mirroring.bring()
    assert "org/tiny/.registry/refs/main" not in store.visible()
    if at != "ref":
        assert_nothing_seen_and_nothing_wrong(mirroring)
    store.failing = False
    await mirroring.bring()
    assert mirroring.stored() == MODEL
    assert store.visible() == VISIBLE
