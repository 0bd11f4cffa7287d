"""The bytes of files over HTTP: ranges, hashes, and nothing but what the manifest lists."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from msp_registry.layout import quarantine_key
from support.registry_files import COMMITS, tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_parts import Client, RegistryParts, error_of, serving

A, B, _ = COMMITS
MODEL = tiny_model(1000)
WEIGHTS = MODEL["model.safetensors"]
URL = f"/files/org/tiny/{A}/model.safetensors"


class WatchedStore(MemoryStore):
    """Tells when a reading has been closed, and what was listed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[str] = []
        self.listed: list[str] = []

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        data = super().get(key, offset, length)
        try:
            async for chunk in data:
                yield chunk
        finally:
            await data.aclose()
            self.closed.append(key)

    def list(self, prefix: str) -> Any:
        self.listed.append(prefix)
        return super().list(prefix)


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
async def registry(store: WatchedStore) -> AsyncGenerator[Client, None]:
    parts = RegistryParts(store)
    await parts.publish("org/tiny", MODEL)
    async with serving(parts) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=100-", 100, len(WEIGHTS) - 1),
        ("bytes=-5", len(WEIGHTS) - 5, len(WEIGHTS) - 1),
        (f"bytes=10-{len(WEIGHTS) * 9}", 10, len(WEIGHTS) - 1),
        (f"bytes=-{len(WEIGHTS) * 9}", 0, len(WEIGHTS) - 1),
    ],
)
async def test_a_range_gives_206_and_its_bytes(registry: Client, asked: str, first: int, last: int) -> None:
    answer = await registry.http.get(URL, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, WEIGHTS[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(WEIGHTS)}"
    assert answer.headers["content-length"] == str(last - first + 1)


async def test_a_file_has_its_hash_as_etag_and_all_its_bytes(registry: Client) -> None:
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    for method in ("GET", "HEAD"):
        answer = await registry.http.request(method, URL)
        assert answer.status_code == 200
        assert answer.headers["etag"] == f'"{sha256}"'
        assert answer.headers["content-length"] == str(len(WEIGHTS))
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.content == (WEIGHTS if method == "GET" else b"")
    whole = await registry.http.head(URL, headers={"Range": "bytes=0-1"})
    assert (whole.status_code, whole.headers["content-length"]) == (200, str(len(WEIGHTS)))
    stale = await registry.http.get(URL, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, WEIGHTS)
    assert registry.parts.counted("served_bytes_total") == 2 * len(WEIGHTS)


async def test_a_range_behind_the_end_is_416(registry: Client) -> None:
    for asked in ("bytes=22-", "bytes=9999999999999999999-", "bytes=-0"):
        answer = await registry.http.get(f"/files/org/tiny/{A}/config.json", headers={"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(MODEL['config.json'])}"
        assert answer.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{A}/nothing", 404),
        (f"{A}/.registry/manifest.json", 404),
        (f"{A}/..%2F..%2Fsecret", 404),
        (f"{A}/", 404),
        (f"{B}/config.json", 404),
        ("main/config.json", 400),
    ],
)
async def test_only_what_the_manifest_lists_is_served(registry: Client, path: str, status: int) -> None:
    assert (await registry.http.get(f"/files/org%2Ftiny/{path}")).status_code == status


async def test_a_file_that_the_store_lost_is_an_error_and_no_empty_answer(
    registry: Client, store: WatchedStore
) -> None:
    key = f"org/tiny/{A}/config.json"
    store.objects[key] = b""
    status, _, message = error_of(await registry.http.get(f"/files/{key}"))
    assert (status, "is shorter in the store" in message) == (500, True)
    del store.objects[key]
    status, _, message = error_of(await registry.http.get(f"/files/{key}"))
    assert (status, f"has lost {key}" in message) == (500, True)


async def test_a_quarantined_file_is_not_served_and_its_neighbours_are(registry: Client) -> None:
    await registry.parts.quarantine.put("org/tiny", A, {"model.safetensors": "its sha256 is 00"})
    for method in ("GET", "HEAD"):
        assert (await registry.http.request(method, URL)).status_code == 409
    status, code, message = error_of(await registry.http.get(URL, headers={"Range": "bytes=0-1"}))
    assert (status, code) == (409, "file_quarantined")
    assert "its sha256 is 00" in message
    assert "POST /models/org/tiny/verify" in message
    assert (await registry.http.get(f"/files/org/tiny/{A}/config.json")).status_code == 200


async def test_while_nobody_can_tell_which_files_are_bad_none_is_served(store: WatchedStore) -> None:
    parts = RegistryParts(store)
    await parts.publish("org/tiny", MODEL)
    await store.put(quarantine_key("org/tiny", A), b"{]")
    async with serving(parts) as registry:
        answer = await registry.http.get(URL)
        assert error_of(answer)[:2] == (409, "file_quarantined")
        assert "POST /models/org/tiny/verify" in error_of(answer)[2]


async def test_the_dash_form_serves_and_the_exact_id_costs_no_listing(
    registry: Client, store: WatchedStore
) -> None:
    await registry.parts.publish("bare-name", MODEL)
    await registry.parts.publish("bare/name", MODEL, commit=B)
    store.listed.clear()
    # Another model has the same dash form; the commit tells them apart.
    for name, commit in (("bare-name", A), ("bare/name", B), ("org/tiny", A)):
        answer = await registry.http.get(f"/files/{name}/{commit}/config.json")
        assert answer.content == MODEL["config.json"]
    assert store.listed == []
    assert (await registry.http.get(f"/files/org-tiny/{A}/config.json")).content == MODEL["config.json"]
    assert store.listed == [""]


async def test_a_client_that_leaves_closes_the_reading_of_the_store(store: WatchedStore) -> None:
    parts = RegistryParts(store)
    await parts.publish("org/big", tiny_model(100_000))
    key = f"org/big/{A}/model.safetensors"
    async with serving(parts) as registry:
        await parts.catalogue.manifest("org/big", A)
        store.closed.clear()
        sent: list[Any] = []
        left = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                left.set()
                await asyncio.Event().wait()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "GET",
            "path": f"/files/{key}",
            "raw_path": f"/files/{key}".encode(),
            "query_string": b"",
            "headers": [],
            "server": ("registry", 80),
            "scheme": "http",
            "http_version": "1.1",
        }
        await asyncio.wait_for(registry.app(scope, receive, send), 10)
    assert sent[0]["status"] == 200
    assert store.closed == [key]
