"""The application as a whole: a store that comes late."""

import asyncio
from pathlib import Path

import httpx

from msp_registry.app import create_app
from msp_registry.assembly import Collaborators
from support.fake_hub import FakeHub, FakeRepo
from support.registry_app import running, settings
from support.registry_files import tiny_model
from support.registry_memory_store import MemoryStore
from support.servers import run_server


async def test_a_store_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    store, waited = MemoryStore(), asyncio.Event()
    store.down = True

    tried = asyncio.Queue[None]()

    async def step(seconds: float) -> None:
        waited.set()
        await tried.get()

    app = create_app(settings(tmp_path), Collaborators(store=store, sleep=step))
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


async def test_what_comes_from_the_hub_is_counted(tmp_path: Path) -> None:
    model = tiny_model()
    with run_server(FakeHub({"org/tiny": FakeRepo(model)}).app) as hub:
        online = settings(tmp_path, REGISTRY_MODE="online", HF_ENDPOINT=hub)
        async with running(online) as registry:
            job = await registry.ended(await registry.http.post("/models/org/tiny/download"))
            assert job.error is None
            metrics = (await registry.http.get("/metrics")).text
    told = next(line for line in metrics.splitlines() if line.startswith("msp_registry_fetched_bytes_total"))
    assert float(told.split()[1]) == sum(map(len, model.values()))
