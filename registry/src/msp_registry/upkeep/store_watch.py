"""Looks at the store now and then, so that `/metrics` tells of it also while nobody asks for anything."""

import asyncio
import logging

from msp_registry.catalogue import Catalogue
from msp_registry.hub.client import Sleep
from msp_registry.metrics import Metrics
from msp_registry.stores.store import ObjectStore, StoreError

EVERY_S = 30.0
"""One small write and one question; far below what an alert waits for."""

PATIENCE_S = 20.0

log = logging.getLogger(__name__)


class StoreWatch:
    """Whether the store can be used, and the room it has left."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, metrics: Metrics, sleep: Sleep) -> None:
        self._store = store
        self._catalogue = catalogue
        self._metrics = metrics
        self._sleep = sleep

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("looking at the store failed, and is tried again later")
            await self._sleep(EVERY_S)

    async def look(self) -> None:
        """Once. A store that does not answer in time cannot be used. Raises StoreError while it is listed."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._store.check()
                free = await self._store.free_bytes()
        except (StoreError, TimeoutError) as error:
            log.warning("the store cannot be used: %s", error or f"no answer within {PATIENCE_S:.0f} s")
            self._metrics.store_usable.set(0)
            self._metrics.store_free_bytes.set(float("nan"))
            return
        self._metrics.store_usable.set(1)
        self._metrics.store_free_bytes.set(float("nan") if free is None else free)
        if self._catalogue.census is None:
            await self._catalogue.ids()  # it takes the census on the way, however long that is
