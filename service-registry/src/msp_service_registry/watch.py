"""The watch stream: one snapshot at once, then one at every change."""

import asyncio
from collections.abc import AsyncIterator

from msp_common import sse
from msp_service_registry.clock import Clock
from msp_service_registry.workers import WorkerTable

COALESCE_S = 0.05
"""Changes that follow a snapshot within this time are told together."""

KEEP_ALIVE_S = 5.0
"""How often a comment is sent while nothing changes, so that a reader notices a dead connection."""

KEEP_ALIVE = b": keep-alive\n\n"


async def snapshots(table: WorkerTable, clock: Clock, known: str | None = None) -> AsyncIterator[bytes]:
    """Server-sent events, each holding a whole `Snapshot`; its generation is the event's id.

    A reader that is slow misses snapshots in between, never the last one. One that comes back names the last
    id it has seen (`known`), and is told nothing until something is new.
    """
    changed = asyncio.Event()
    unsubscribe = table.subscribe(changed.set)
    try:
        if known == str(table.generation):
            while not await clock.wait(changed, clock.monotonic() + KEEP_ALIVE_S):
                yield KEEP_ALIVE
        while True:
            changed.clear()
            snapshot = table.snapshot()
            yield sse.frame(snapshot.model_dump_json(), id=str(snapshot.generation))
            await clock.wait(asyncio.Event(), clock.monotonic() + COALESCE_S)
            while not await clock.wait(changed, clock.monotonic() + KEEP_ALIVE_S):
                yield KEEP_ALIVE
    finally:
        unsubscribe()
