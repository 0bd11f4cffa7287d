"""Health and metrics: the store, the mode, jobs, what is quarantined, and the scrub."""

import time
from datetime import datetime
from typing import Any

from msp_registry.upkeep.scrub_schedule import quiet_hours
from msp_registry.upkeep.scrubbing import Scrubber
from support.registry_files import COMMITS, tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_parts import RegistryParts, serving

A, *_ = COMMITS


def scrubber_of(parts: RegistryParts) -> Scrubber:
    hours = quiet_hours("00:00-00:00")
    assert hours is not None

    async def sleep(seconds: float) -> None:
        parts.now += seconds

    return Scrubber(
        parts.store,
        parts.catalogue,
        parts.jobs,
        parts.quarantine,
        parts.verifier,
        parts.metrics,
        hours=hours,
        every_days=30,
        bytes_per_s=1e9,
        clock=parts.clock,
        monotonic=time.monotonic,
        sleep=sleep,
        local_time=datetime.fromtimestamp,
    )


async def test_health_tells_mode_and_store() -> None:
    store = MemoryStore()
    async with serving(RegistryParts(store)) as registry:
        up = await registry.http.get("/health")
        assert (up.status_code, up.json()["status"], up.json()["reason"]) == (200, "ok", None)
        assert "offline" in up.json()["parts"]["mode"]["reason"]
        assert up.json()["parts"]["jobs"] == {"status": "ok", "reason": "0 running"}
        assert "REGISTRY_SCRUB_HOURS=off" in up.json()["parts"]["scrub"]["reason"]
        store.down = True
        down = await registry.http.get("/health")
        assert (down.status_code, down.json()["status"]) == (503, "down")
        assert down.json()["reason"] == "the store is down"
        assert (await registry.http.get("/livez")).status_code == 200


async def test_an_online_registry_names_its_hub() -> None:
    async with serving(RegistryParts(MemoryStore()), online=True, restore=False) as registry:
        parts = (await registry.http.get("/health")).json()["parts"]
        assert parts["mode"]["reason"] == "online: mirrors http://hub"
        assert parts["jobs"]["status"] == "degraded"


async def test_bad_files_make_it_degraded_and_are_named() -> None:
    parts = RegistryParts(MemoryStore())
    async with serving(parts) as registry:
        await parts.quarantine.put("org/a", A, {"model.safetensors": "wrong", "config.json": "wrong"})
        health = await registry.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert f"org/a@{A}: model.safetensors, config.json" in health.json()["reason"]
        assert "POST /models/<name>/verify" in health.json()["parts"]["quarantine"]["reason"]
        await parts.quarantine.lift("org/a", A)
        assert (await registry.http.get("/health")).json()["status"] == "ok"


async def test_the_scrub_tells_when_it_last_ran() -> None:
    parts = RegistryParts(MemoryStore())
    await parts.publish("org/a", tiny_model())
    scrubber = scrubber_of(parts)
    async with serving(parts, scrubber=scrubber) as registry:

        async def told() -> Any:
            return (await registry.http.get("/health")).json()["parts"]["scrub"]

        assert (await told())["reason"] == "in the hours 00:00-00:00; nothing was read back yet"
        await scrubber.step()
        assert "last read a model to its end at 2027-01-15T08:00Z" in (await told())["reason"]


async def test_the_gauges_are_read_off_when_asked() -> None:
    store = MemoryStore()
    parts = RegistryParts(store)
    parts.metrics.watch(
        census=lambda: parts.catalogue.census,
        quarantined_files=parts.quarantine.files,
        jobs_running=lambda: parts.jobs.running,
        scrub_last_run=lambda: None,
    )
    await parts.publish("org/a", tiny_model())
    await parts.quarantine.put("org/a", A, {"config.json": "wrong"})
    async with serving(parts) as registry:
        before = (await registry.http.get("/metrics")).text
        assert "msp_registry_models NaN" in before
        await registry.http.get("/models")
        page = (await registry.http.get("/metrics")).text
    assert "msp_registry_models 1.0" in page
    assert f"msp_registry_stored_bytes {float(sum(map(len, store.objects.values())))}" in page
    assert "msp_registry_quarantined_files 1.0" in page
    assert "msp_registry_jobs_running 0.0" in page
    assert "msp_registry_scrub_last_run_timestamp_seconds 0.0" in page
