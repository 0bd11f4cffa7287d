"""Reading pieces of files from a hub over HTTP, whatever it does."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import httpx
import pytest

from msp_registry.failures import HubMisbehaved, HubUnreachable, RateLimited, WrongBytes
from msp_registry.hub.client import TRIES, HubClient
from msp_registry.hub.selection import RemoteFile
from msp_registry.transfers.file_source import RangesIgnored
from support.fake_hub import COMMIT, FakeHub
from support.registry_files import tiny_model
from support.registry_mirroring import Mirroring, Switchboard, remote
from support.servers import run_server

MODEL = tiny_model(20_000)
WEIGHTS = "model.safetensors"
DATA = MODEL[WEIGHTS]
SIZE = len(DATA)
FILE = remote(WEIGHTS, DATA)


@pytest.fixture
def endpoint(hub: FakeHub, served: tuple[Switchboard, str]) -> Iterator[str]:
    switchboard, url = served
    switchboard.hub = hub
    yield url
    hub.release.set()


@pytest.fixture
async def talk(hub: FakeHub, endpoint: str) -> AsyncGenerator[Mirroring, None]:
    # Without a limit of its own: only that of the reading may end a wait.
    async with httpx.AsyncClient(timeout=None) as client:
        yield Mirroring(hub, endpoint, client)


async def read(client: HubClient, offset: int, length: int, file: RemoteFile = FILE) -> bytes:
    return b"".join([chunk async for chunk in client.read("org/tiny", COMMIT, file, offset, length)])


@pytest.mark.parametrize(
    ("offset", "length"), [(0, SIZE), (0, 1), (0, 30_000), (1, SIZE - 1), (SIZE - 1, 1), (40_000, 5)]
)
async def test_a_piece_is_exactly_what_was_asked_for(talk: Mirroring, offset: int, length: int) -> None:
    assert await read(talk.hub_client(), offset, length) == DATA[offset : offset + length]
    assert talk.hub.sent[WEIGHTS] == length
    assert len(talk.hub.seen) == 1


async def test_no_byte_costs_no_request(talk: Mirroring) -> None:
    assert await read(talk.hub_client(), 0, 0, remote("empty.txt", b"")) == b""
    assert talk.hub.seen == []


async def test_connections_are_used_again(talk: Mirroring) -> None:
    connections = set()

    async def note(response: httpx.Response) -> None:
        connections.add(id(response.extensions["network_stream"]._stream))

    client = talk.hub_client()
    talk.client.event_hooks["response"].append(note)
    for offset in (0, 20_000, 40_000):
        await read(client, offset, 20_000)
    assert len(connections) == 1


async def test_a_piece_that_breaks_off_goes_on_where_it_stopped(talk: Mirroring) -> None:
    talk.hub.cut_after = 15_000
    assert await read(talk.hub_client(), 10_000, 40_000) == DATA[10_000:50_000]
    assert talk.hub.ranges_of(WEIGHTS) == ["bytes=10000-49999", "bytes=25000-49999", "bytes=40000-49999"]
    assert talk.hub.sent[WEIGHTS] == 40_000


async def test_all_bytes_that_come_are_counted(talk: Mirroring) -> None:
    counted: list[int] = []
    talk.client.event_hooks["request"].clear()
    client = HubClient(talk.endpoint, None, talk.client, talk.clock.sleep, fetched=counted.append)
    await read(client, 0, SIZE)
    await read(client, 10, 20)
    assert sum(counted) == SIZE + 20


async def test_a_piece_that_never_gets_further_is_given_up(talk: Mirroring) -> None:
    talk.hub.cut_after = 0
    with pytest.raises(HubUnreachable, match=f"broke off {TRIES} times at byte 10000"):
        await read(talk.hub_client(), 10_000, 40_000)
    assert len(talk.hub.seen) == TRIES


async def test_a_server_without_ranges_says_so_before_the_file_is_fetched_in_vain(talk: Mirroring) -> None:
    talk.hub.ignore_range = True
    for offset in (0, 10_000):
        with pytest.raises(RangesIgnored):
            await read(talk.hub_client(), offset, 10_000)
    assert await read(talk.hub_client(), 0, SIZE) == DATA


async def test_a_whole_file_from_a_server_without_ranges_is_skipped_through_after_a_break(
    talk: Mirroring,
) -> None:
    talk.hub.ignore_range, talk.hub.cut_after, talk.hub.cuts_left = True, 30_000, 1
    assert await read(talk.hub_client(), 0, SIZE) == DATA
    assert talk.hub.ranges_of(WEIGHTS) == [None, f"bytes=30000-{SIZE - 1}"]


async def test_a_stall_is_not_waited_for_longer_than_the_timeout(talk: Mirroring) -> None:
    talk.stall_timeout_s = 0.5
    talk.hub.stall_after, talk.hub.stalls_left = 20_000, 1
    assert await read(talk.hub_client(), 0, SIZE) == DATA
    assert talk.hub.ranges_of(WEIGHTS) == [None, f"bytes=20000-{SIZE - 1}"]


async def test_a_slow_first_byte_is_asked_for_again(talk: Mirroring) -> None:
    talk.stall_timeout_s = 0.5
    talk.hub.slow_left = 1
    assert await read(talk.hub_client(), 0, SIZE) == DATA
    assert len(talk.hub.seen) == 2


async def test_another_range_than_asked_for_is_not_taken(talk: Mirroring) -> None:
    talk.hub.other_ranges_left = 1
    assert await read(talk.hub_client(), 10_000, 10_000) == DATA[10_000:20_000]
    talk.hub.other_ranges_left = TRIES
    with pytest.raises(HubMisbehaved, match=r"bytes from 10000 were asked for, .*'bytes 10001-"):
        await read(talk.hub_client(), 10_000, 10_000)


@pytest.mark.parametrize("told", [SIZE + 5, SIZE - 5])
@pytest.mark.parametrize("length", [SIZE, 10_000])
async def test_a_size_that_is_not_the_lists_is_told_with_both_numbers(
    talk: Mirroring, told: int, length: int
) -> None:
    talk.hub.told_sizes[WEIGHTS] = told
    with pytest.raises(WrongBytes, match=rf"list says {SIZE} bytes, its file has {told} bytes"):
        await read(talk.hub_client(), 0, length)


async def test_a_range_behind_the_real_end_is_told_with_both_numbers(talk: Mirroring) -> None:
    longer = RemoteFile(WEIGHTS, SIZE + 50_000, git_sha1=None, sha256="0" * 64)
    with pytest.raises(WrongBytes, match=rf"list says {SIZE + 50_000} bytes, its file has {SIZE} bytes"):
        await read(talk.hub_client(), SIZE + 10, 100, longer)


async def test_a_compressed_body_is_refused(talk: Mirroring) -> None:
    talk.hub.content_encoding = "gzip"
    with pytest.raises(HubMisbehaved, match="compressed"):
        await read(talk.hub_client(), 0, SIZE)


async def test_the_place_that_a_redirect_names_is_used_for_the_other_pieces(
    talk: Mirroring, hub: FakeHub
) -> None:
    other = FakeHub(hub.repos)
    with run_server(other.app) as hub.second_origin:
        client = talk.hub_client()
        for offset in (0, 20_000, 40_000):
            assert await read(client, offset, 20_000) == DATA[offset : offset + 20_000]
    assert len(hub.seen) == 1
    assert len(other.seen) == 3


async def test_pieces_asked_for_at_once_cost_one_request_of_the_hub(talk: Mirroring, hub: FakeHub) -> None:
    other = FakeHub(hub.repos)
    with run_server(other.app) as hub.second_origin:
        client = talk.hub_client()
        pieces = await asyncio.gather(*[read(client, offset, 10_000) for offset in range(0, 80_000, 10_000)])
    assert b"".join(pieces) == DATA[:80_000]
    assert len(hub.seen) == 1
    assert len(other.seen) == 8


async def test_where_a_hub_gives_files_itself_no_piece_waits_for_another(
    talk: Mirroring, hub: FakeHub
) -> None:
    client = talk.hub_client()
    async with aclosing(client.read("org/tiny", COMMIT, FILE, 0, 10_000)) as first:
        await anext(first)
        assert await read(client, 10_000, 10_000) == DATA[10_000:20_000]
    assert len(hub.seen) == 2


async def test_who_waits_for_a_files_place_goes_on_when_the_one_that_asks_is_cancelled(
    talk: Mirroring, hub: FakeHub
) -> None:
    other = FakeHub(hub.repos)
    with run_server(other.app) as hub.second_origin:
        client = talk.hub_client()
        asking = [asyncio.create_task(read(client, offset, 10_000)) for offset in (0, 10_000, 20_000)]
        await asyncio.sleep(0)
        asking[0].cancel()
        assert await asking[2] == DATA[20_000:30_000]
        assert await asking[1] == DATA[10_000:20_000]


async def test_a_place_whose_signature_is_over_is_asked_for_anew(talk: Mirroring, hub: FakeHub) -> None:
    other = FakeHub(hub.repos)
    with run_server(other.app) as hub.second_origin:
        client = talk.hub_client()
        await read(client, 0, 20_000)
        other.expired_left = 1
        assert await read(client, 20_000, 20_000) == DATA[20_000:40_000]
    assert len(hub.seen) == 2
    assert talk.clock.waits == []


async def test_a_place_that_refuses_everything_is_named(talk: Mirroring, hub: FakeHub) -> None:
    other = FakeHub(hub.repos, expired_left=99)
    refused = pytest.raises(HubUnreachable, match=r"sends us to 127\.0\.0\.1, which answers HTTP 403")
    with run_server(other.app) as hub.second_origin, refused:
        await read(talk.hub_client(), 0, SIZE)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
async def test_the_token_goes_to_the_hub_alone(talk: Mirroring, hub: FakeHub, name: str) -> None:
    hub.accepted_token = talk.token = "hf_secret"
    hub.resolve_cache = hub.xet = True
    other = FakeHub(hub.repos)
    file = remote(name, MODEL[name])
    with run_server(other.app) as hub.second_origin:
        client = talk.hub_client()
        assert await read(client, 0, file.size_bytes, file) == MODEL[name]
        assert await read(client, 0, 1, file) == MODEL[name][:1]
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_secret"}
    assert {seen.authorization for seen in other.seen} <= {None}


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"Retry-After": "7"}, [7.0, 7.0]),
        ({"Retry-After": "0"}, [0.5, 1.0]),
        ({"RateLimit": '"api";r=0;t=55'}, [56.0, 56.0]),
        ({"RateLimit": '"api";r=12;t=55'}, [0.5, 1.0]),
        ({}, [0.5, 1.0]),
    ],
)
async def test_a_busy_hub_is_asked_again_when_it_says(
    talk: Mirroring, headers: dict[str, str], waits: list[float]
) -> None:
    talk.hub.busy, talk.hub.busy_headers = [429, 503], headers
    assert await read(talk.hub_client(), 0, SIZE) == DATA
    assert talk.clock.waits == waits


async def test_a_hub_that_wants_to_be_left_alone_for_hours_is_not_waited_for(talk: Mirroring) -> None:
    talk.hub.busy, talk.hub.busy_headers = [429], {"Retry-After": "7200"}
    with pytest.raises(RateLimited, match="asks to wait 7200 s, more than the 600 s") as failure:
        await read(talk.hub_client(), 0, SIZE)
    assert failure.value.retryable
    assert talk.clock.waits == []


async def test_a_hub_that_stays_busy_is_given_up(talk: Mirroring) -> None:
    talk.hub.busy = [503] * TRIES
    with pytest.raises(HubUnreachable, match="HTTP 503; tried 5 times"):
        await read(talk.hub_client(), 0, SIZE)


async def test_the_last_allowed_request_slows_down_before_the_hub_refuses(talk: Mirroring) -> None:
    talk.hub.rate_limits = ['"api";r=1;t=40', '"api";r=0;t=39']
    client = talk.hub_client()
    await client.resolve("org/tiny", "main")
    await client.tree("org/tiny", COMMIT)
    assert talk.clock.waits == []
    assert await read(client, 0, SIZE) == DATA  # counted apart from the API
    assert talk.clock.waits == []
    await client.tree("org/tiny", COMMIT)
    assert talk.clock.waits == [40.0]


async def test_what_the_hub_says_of_a_model_is_kept(talk: Mirroring, hub: FakeHub) -> None:
    hub.repos["org/tiny"].info = {
        "pipeline_tag": "text-generation",
        "library_name": 5,
        "tags": ["a", None, "b"],
        "lastModified": "2026-01-02T03:04:05.000Z",
        "gated": "manual",
    }
    resolved = await talk.hub_client().resolve("org/tiny", "main")
    record = resolved.record
    assert (resolved.commit, record.pipeline_tag, record.library_name) == (COMMIT, "text-generation", None)
    assert (record.tags, record.last_modified) == (["a", "b"], "2026-01-02T03:04:05.000Z")
    assert (record.private, record.gated) == (False, "manual")


async def test_a_renamed_model_is_followed_and_told(
    talk: Mirroring, hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.renamed["old/name"] = "org/tiny"
    hub.accepted_token = talk.token = "hf_secret"
    client = talk.hub_client()
    assert (await client.resolve("old/name", "main")).commit == COMMIT
    assert "old/name is called org/tiny" in caplog.text
    assert {file.path for file in await client.tree("old/name", COMMIT)} == set(MODEL)
    assert b"".join([c async for c in client.read("old/name", COMMIT, FILE, 0, SIZE)]) == DATA
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_secret"}


@pytest.mark.parametrize("page_size", [1, 2, 5])
async def test_all_pages_of_the_tree_are_read(talk: Mirroring, page_size: int) -> None:
    talk.hub.page_size = page_size
    assert {file.path for file in await talk.hub_client().tree("org/tiny", COMMIT)} == set(MODEL)


async def test_pages_are_asked_of_the_endpoint_though_links_name_another_host(talk: Mirroring) -> None:
    talk.hub.page_size = 2
    talk.hub.link_host = "https://elsewhere.invalid"
    assert {file.path for file in await talk.hub_client().tree("org/tiny", COMMIT)} == set(MODEL)


@pytest.mark.parametrize(
    "entry", [{"size": 1, "oid": "2"}, {"path": "x", "oid": "2"}, {"path": "x", "size": -1}]
)
async def test_a_tree_that_makes_no_sense_is_refused(talk: Mirroring, entry: dict[str, object]) -> None:
    talk.hub.extra_entries = [{"type": "file", **entry}]
    with pytest.raises(HubMisbehaved, match="without path, size or hash"):
        await talk.hub_client().tree("org/tiny", COMMIT)


async def test_something_that_is_no_hub_is_named(talk: Mirroring) -> None:
    talk.hub.repos["org/tiny"].refs["main"] = "not a commit"
    with pytest.raises(HubMisbehaved, match="names no commit"):
        await talk.hub_client().resolve("org/tiny", "main")
