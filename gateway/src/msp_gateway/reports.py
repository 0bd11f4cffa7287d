"""What the gateway saw of workers, told to the service registry without anybody waiting for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from msp_common.contracts.workers import WorkerReport
from msp_gateway.service_registry import ServiceRegistryAway

QUEUE_LENGTH = 1000
"""Reports beyond these are dropped: old news of a service registry that is away helps nobody."""

log = logging.getLogger(__name__)


class Reports(Protocol):
    """Takes reports."""

    def tell(self, worker_id: str, report: WorkerReport) -> None:
        """Never waits and never fails."""


class QueuedReports:
    """Sends reports one after the other; `run` is a background task."""

    def __init__(self, send: Callable[[str, WorkerReport], Awaitable[None]]) -> None:
        """`send` raises ServiceRegistryAway; the report is then lost."""
        self._send = send
        self._queue: asyncio.Queue[tuple[str, WorkerReport]] = asyncio.Queue(QUEUE_LENGTH)

    def tell(self, worker_id: str, report: WorkerReport) -> None:
        """Never waits and never fails."""
        try:
            self._queue.put_nowait((worker_id, report))
        except asyncio.QueueFull:
            log.warning("report dropped, %d are waiting", QUEUE_LENGTH, extra={"worker": worker_id})

    async def run(self) -> None:
        """Send what is told, for ever."""
        while True:
            worker_id, report = await self._queue.get()
            try:
                await self._send(worker_id, report)
            except ServiceRegistryAway as error:
                log.warning("report lost: %s", error, extra={"worker": worker_id, "kind": report.kind.value})
