"""The application as a whole: a store that comes late, and clients that leave early."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx

from msp_registry.app import create_app
from support.registry_app import running, settings
from support.registry_files import tiny_model, write_folder
from support.registry_memory_store import MemoryStore


async def test_a_store_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    store, waited = MemoryStore(), asyncio.Event()
    store.down = True

    tried = asyncio.Queue[None]()

    async def step(seconds: float) -> None:
        waited.set()
        await tried.get()

    app = create_app(settings(tmp_path), store=store, sleep=step)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://registry") as http,
    ):
        await waited.wait()
        down = await http.get("/health")
        assert (down.status_code, down.json()["parts"]["jobs"]["status"]) == (503, "degraded")
        early = await http.get("/jobs/from-an-earlier-process")
        assert (early.status_code, early.headers["retry-after"]) == (503, "2")
        store.down = False
        tried.put_nowait(None)
        await app.state.parts.jobs.restored.wait()
        assert (await http.get("/health")).json()["status"] == "ok"
        assert (await http.get("/jobs/from-an-earlier-process")).status_code == 404


class WatchedStore(MemoryStore):
    """Tells when a reading has been closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[str] = []

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in super().get(key, offset, length):
                yield chunk
        finally:
            self.closed.append(key)


async def test_a_client_that_leaves_closes_the_reading_of_the_store(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "models" / "tiny", tiny_model(100_000))
    store = WatchedStore()
    async with running(settings(tmp_path), store=store) as registry:
        job = await registry.bring("org/tiny", folder)
        key = f"org/tiny/{job.commit}/model.safetensors"
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
