"""The hub's file downloads: headers, ranges, conditions, and the traps of single clients."""

import hashlib
import http.client
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import httpx
import pytest

from msp_registry.facade.downloads import head_headers
from msp_registry.layout import file_key
from support.hub_facade import COMMIT, OTHER_COMMIT, Facade, described, facade, publish
from support.registry_files import safetensors
from support.servers import run_server

WEIGHTS = safetensors(1000)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/a b+ü.txt": b"text", "empty.txt": b""}
URL = "/org/tiny/resolve/main/model.safetensors"
ETAG = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
CONFIG_ETAG = f'"{described("", b"{}").git_sha1}"'
HUGE = 60_000_000_000
OLD, NEW = "unknown/None; hf_hub/1.25.0; python/3.11", "unknown/None; hf_hub/2.4.0; python/3.11"


@pytest.fixture
async def hub() -> Facade:
    made = facade()
    await publish(made.parts, "org/tiny", FILES)
    return made


@pytest.fixture
async def client(hub: Facade) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(hub.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
        yield client


@pytest.mark.parametrize(
    ("url", "data", "etag"),
    [
        (URL, WEIGHTS, ETAG),
        ("/org%2Ftiny/resolve/main/model.safetensors", WEIGHTS, ETAG),
        (f"/org/tiny/resolve/{COMMIT}/config.json", b"{}", CONFIG_ETAG),
        ("/org/tiny/resolve/main/sub/a%20b%2B%C3%BC.txt", b"text", f'"{described("", b"text").git_sha1}"'),
        ("/org/tiny/resolve/main/sub%2Fa%20b+%C3%BC.txt", b"text", f'"{described("", b"text").git_sha1}"'),
        ("/org/tiny/resolve/main/empty.txt", b"", '"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"'),
    ],
)
async def test_head_and_get_tell_the_same_and_get_brings_the_bytes(
    client: httpx.AsyncClient, url: str, data: bytes, etag: str
) -> None:
    got, head = await client.get(url), await client.head(url, headers={"Accept-Encoding": "identity"})
    assert (got.status_code, head.status_code, got.content, head.content) == (200, 200, data, b"")
    for answer in (got, head):
        assert answer.headers["X-Repo-Commit"] == COMMIT
        assert answer.headers["ETag"] == answer.headers["X-Linked-Etag"] == etag
        assert answer.headers["Content-Length"] == answer.headers["X-Linked-Size"] == str(len(data))
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert "Content-Encoding" not in answer.headers
        assert "Location" not in answer.headers
        assert not [name for name in answer.headers if "xet" in name.lower()]


async def test_etags_are_those_of_tree_and_info(client: httpx.AsyncClient) -> None:
    tree = (await client.get("/api/models/org/tiny/tree/main?recursive=true")).json()
    info = (await client.get("/api/models/org/tiny?blobs=true")).json()
    blobs = {s["rfilename"]: s.get("lfs", {}).get("sha256", s["blobId"]) for s in info["siblings"]}
    oids = {e["path"]: e.get("lfs", e)["oid"] for e in tree if e["type"] == "file"}
    etags = {}
    for path in FILES:
        head = await client.head(f"/org/tiny/resolve/main/{path}")
        etags[path] = head.headers["ETag"].strip('"')
    assert etags == blobs == oids


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=8-99", 8, 99),
        ("bytes=100-", 100, len(WEIGHTS) - 1),
        ("bytes=-10", len(WEIGHTS) - 10, len(WEIGHTS) - 1),
        (f"bytes=5-{10**12}", 5, len(WEIGHTS) - 1),
    ],
)
async def test_a_range_is_206_with_its_place(
    client: httpx.AsyncClient, asked: str, first: int, last: int
) -> None:
    answer = await client.get(URL, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, WEIGHTS[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(WEIGHTS)}"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["X-Repo-Commit"] == COMMIT


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=9-3", "bytes=x"])
async def test_a_range_that_cannot_be_honoured_is_the_whole_file(
    client: httpx.AsyncClient, asked: str
) -> None:
    answer = await client.get(URL, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, WEIGHTS)


async def test_a_range_behind_the_end_is_416_with_the_size(client: httpx.AsyncClient) -> None:
    answer = await client.get(URL, headers={"Range": f"bytes={len(WEIGHTS)}-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(WEIGHTS)}")
    assert str(len(WEIGHTS)) in answer.headers["X-Error-Message"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [(ETAG, 206), ('"other"', 200), (f"W/{ETAG}", 200), ("Wed, 21 Oct 2026 07:28:00 GMT", 200)],
)
async def test_a_range_for_other_bytes_than_the_clients_is_the_whole_file(
    client: httpx.AsyncClient, asked: str, status: int
) -> None:
    answer = await client.get(URL, headers={"Range": "bytes=0-9", "If-Range": asked})
    assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("asked", [ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"])
async def test_a_file_that_the_client_has_is_304(client: httpx.AsyncClient, method: str, asked: str) -> None:
    answer = await client.request(method, URL, headers={"If-None-Match": asked})
    assert (answer.status_code, answer.content) == (304, b"")
    assert (answer.headers["ETag"], answer.headers["X-Repo-Commit"]) == (ETAG, COMMIT)
    assert "Content-Length" not in answer.headers


async def test_a_file_that_the_client_has_in_another_form_is_sent(client: httpx.AsyncClient) -> None:
    assert (await client.get(URL, headers={"If-None-Match": '"x"'})).status_code == 200


async def test_only_what_a_commit_names_may_be_kept_for_ever(client: httpx.AsyncClient) -> None:
    by_ref = await client.get(URL)
    by_commit = await client.get(f"/org/tiny/resolve/{COMMIT}/config.json")
    assert by_ref.headers["Cache-Control"] == "no-cache, no-transform"
    assert by_commit.headers["Cache-Control"] == "max-age=31536000, immutable, no-transform"


async def test_a_quarantined_file_is_described_but_refused_saying_what_to_do(
    hub: Facade, client: httpx.AsyncClient
) -> None:
    await hub.parts.quarantine.put("org/tiny", COMMIT, {"model.safetensors": "sha256 is 00"})
    answer = await client.get(URL, headers={"Range": "bytes=0-0"})
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (409, "FileQuarantined")
    assert "sha256 is 00" in answer.headers["X-Error-Message"]
    assert "POST /models/org/tiny/verify" in answer.headers["X-Error-Message"]
    assert (await client.head(URL)).status_code == 200
    assert (await client.get("/org/tiny/resolve/main/config.json")).status_code == 200
    await hub.parts.quarantine.lift("org/tiny", COMMIT)
    assert (await client.get(URL)).content == WEIGHTS


async def test_lost_bytes_are_an_error_and_not_a_short_file(hub: Facade, client: httpx.AsyncClient) -> None:
    await hub.parts.store.delete(file_key("org/tiny", COMMIT, "model.safetensors"))
    answer = await client.get(URL)
    assert answer.status_code == 500
    assert "lost" in answer.json()["error"]


async def test_what_is_sent_counts_as_served(hub: Facade, client: httpx.AsyncClient) -> None:
    await client.get(URL, headers={"Range": "bytes=0-99"})
    metrics = (await client.get("/metrics")).text
    served = next(line for line in metrics.splitlines() if line.startswith("msp_registry_served_bytes_total"))
    assert float(served.split()[-1]) == 100


@pytest.mark.parametrize(
    ("agent", "size", "told"),
    [
        (NEW, HUGE, False),
        ("transformers/5.23.0; hf_hub/10.0.0", HUGE, False),
        (NEW, 50_000_000_000, True),
        (OLD, HUGE, True),
        ("hf_hub/0.36.2", HUGE, True),
        ("hf_hub_mirror/2.0", HUGE, True),
        ("curl/8.0", HUGE, True),
        ("", HUGE, True),
    ],
)
def test_only_a_client_that_would_refuse_a_huge_file_is_not_told_its_size(
    agent: str, size: int, told: bool
) -> None:
    headers = head_headers(size, agent)
    assert ("Content-Length" in headers) == ("X-Linked-Size" in headers) == told
    assert ("X-HF-Warning" in headers) == (told and size > 50_000_000_000 and "hf_hub/" in agent)


async def test_over_a_real_server_head_has_the_size_or_none_at_all_but_never_zero(hub: Facade) -> None:
    """A length of 0 makes old clients write an empty file and be content."""
    huge = described("huge.gguf", b"").model_copy(update={"size_bytes": HUGE})
    sized = described("model.gguf", b"").model_copy(update={"size_bytes": 12345})
    listed = [huge.model_dump(), sized.model_dump()]
    await publish(hub.parts, "org/huge", {}, commit=OTHER_COMMIT, files=listed)
    with run_server(hub.app) as url:
        heads = {
            (agent, file): _head(url, f"/org/huge/resolve/main/{file}", agent)
            for agent in (OLD, NEW)
            for file in ("huge.gguf", "model.gguf")
        }
    assert heads == {
        (OLD, "huge.gguf"): (200, str(HUGE), str(HUGE)),
        (NEW, "huge.gguf"): (200, None, None),
        (OLD, "model.gguf"): (200, "12345", "12345"),
        (NEW, "model.gguf"): (200, "12345", "12345"),
    }


def _head(url: str, path: str, agent: str) -> tuple[int, str | None, str | None]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request("HEAD", path, headers={"User-Agent": agent, "Connection": "close"})
    answer = connection.getresponse()
    connection.close()
    return answer.status, answer.getheader("Content-Length"), answer.getheader("X-Linked-Size")


async def test_the_calls_of_the_hf_hub_crate(client: httpx.AsyncClient) -> None:
    """As text-embeddings-inference and candle do: all they need to know comes from the first byte."""
    info = (await client.get("/api/models/org/tiny/revision/main")).json()
    assert (info["sha"], info["siblings"][1]) == (COMMIT, {"rfilename": "model.safetensors"})
    first = await client.get(URL, headers={"Range": "bytes=0-0", "User-Agent": "unknown/None; hf-hub/0.4.3"})
    assert first.status_code == 206
    assert first.headers["x-repo-commit"] == COMMIT
    assert first.headers["etag"] == ETAG
    size = int(first.headers["content-range"].rpartition("/")[2])
    pieces = [
        (await client.get(URL, headers={"Range": f"bytes={start}-{min(start + 999, size - 1)}"})).content
        for start in range(0, size, 1000)
    ]
    assert b"".join(pieces) == WEIGHTS


async def test_the_calls_of_llama_cpp(hub: Facade, client: httpx.AsyncClient) -> None:
    """Refs, one page of tree, HEAD, and a download that goes on where it broke off."""
    await publish(hub.parts, "org/tiny-GGUF", {"tiny.gguf": b"GGUF" * 500}, commit=OTHER_COMMIT)
    refs = (await client.get("/api/models/org/tiny-GGUF/refs")).json()
    commit = next(b["targetCommit"] for b in refs["branches"] if b["name"] == "main")
    tree = (await client.get(f"/api/models/org/tiny-GGUF/tree/{commit}?recursive=true")).json()
    file = next(entry for entry in tree if entry["path"].endswith(".gguf"))
    assert (file["type"], file["lfs"]["size"]) == ("file", 2000)
    url = f"/org/tiny-GGUF/resolve/{commit}/{file['path']}"
    head = await client.head(url)
    assert head.is_success
    assert (head.headers["Accept-Ranges"], head.headers["Content-Length"]) == ("bytes", "2000")
    assert head.headers["ETag"] == f'"{file["lfs"]["oid"]}"'
    rest = await client.get(url, headers={"Range": "bytes=700-"})
    assert (rest.status_code, rest.content) == (206, (b"GGUF" * 500)[700:])


async def test_calls_by_ref_or_commit_list_nothing(hub: Facade, client: httpx.AsyncClient) -> None:
    assert hub.parts.store.lists == []
    for revision in ("main", COMMIT):
        assert (await client.head(f"/org/tiny/resolve/{revision}/config.json")).status_code == 200
    assert hub.parts.store.lists == []
    assert (await client.head("/org/tiny/resolve/none/config.json")).status_code == 404
    assert hub.parts.store.lists == ["org/tiny/", "org/tiny/"]
