"""What `/metrics` tells of the store while nobody asks for anything."""

import asyncio
import math

from msp_registry.upkeep.store_watch import EVERY_S, StoreWatch
from support.registry_files import tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_parts import RegistryParts


def watch_over(parts: RegistryParts) -> StoreWatch:
    return StoreWatch(parts.store, parts.catalogue, parts.metrics, asyncio.sleep)


async def test_a_store_that_works_is_usable_and_tells_its_room_and_its_models() -> None:
    store = MemoryStore()
    parts = RegistryParts(store)
    parts.metrics.watch(
        census=lambda: parts.catalogue.census,
        quarantined_files=parts.quarantine.files,
        jobs_running=lambda: 0,
        scrub_last_run=lambda: None,
    )
    await parts.publish("org/a", tiny_model())
    store.free = 7_000
    await watch_over(parts).look()
    assert parts.counted("store_usable") == 1
    assert parts.counted("store_free_bytes") == 7_000
    assert parts.counted("models") == 1


async def test_a_store_that_is_away_is_not_usable_until_it_comes_back() -> None:
    store = MemoryStore()
    parts, rounds = RegistryParts(store), iter([True, False])
    seen: list[float] = []
    slept: list[float] = []
    ended = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        seen.append(parts.counted("store_usable"))
        if (down := next(rounds, None)) is None:
            ended.set()
            await asyncio.Event().wait()
        else:
            store.down = down

    watch = asyncio.create_task(StoreWatch(store, parts.catalogue, parts.metrics, sleep).run())
    await ended.wait()
    watch.cancel()
    assert seen == [1, 0, 1]
    assert slept == [EVERY_S] * 3


async def test_room_is_not_a_number_where_the_store_cannot_tell_or_is_away() -> None:
    store = MemoryStore()
    parts = RegistryParts(store)
    await watch_over(parts).look()
    assert math.isnan(parts.counted("store_free_bytes"))
    store.free = 7
    await watch_over(parts).look()
    store.down = True
    await watch_over(parts).look()
    assert math.isnan(parts.counted("store_free_bytes"))
