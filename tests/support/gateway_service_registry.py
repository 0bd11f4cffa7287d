"""A service registry as the gateway sees it, on a real socket; it can be lost and come back elsewhere."""

import asyncio
import json
from collections.abc import Sequence
from typing import Self

from msp_common import sse
from msp_common.contracts.workers import Snapshot, Worker
from support.fake_worker import Exchange, FakeWorker, send_json, start_stream


class FakeServiceRegistry:
    """Tells what the test sets by `tell`. Without `watches` it answers the watch with 404, as an old one."""

    def __init__(self, *workers: Worker, watches: bool = True) -> None:
        self._snapshot = Snapshot(generation=1, taken_at=0, workers=list(workers))
        self._changed = asyncio.Condition()
        self._watches = watches
        self._server = FakeWorker(self._answer)
        self.reports: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()
        self.shown: str | None = None
        """What the newest report had as Authorization."""

    @property
    def url(self) -> str:
        """Its base URL."""
        return self._server.url

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.__aexit__()

    async def die(self) -> None:
        """Break all connections and refuse new ones."""
        await self._server.__aexit__()

    async def come_back(self, *workers: Worker) -> None:
        """Listen on the same port again, knowing these workers."""
        self._snapshot = Snapshot(generation=1, taken_at=0, workers=list(workers))
        await self._server.listen_again()

    async def tell(self, workers: Sequence[Worker]) -> None:
        """The workers are these from now on."""
        async with self._changed:
            generation = self._snapshot.generation + 1
            self._snapshot = Snapshot(generation=generation, taken_at=0, workers=list(workers))
            self._changed.notify_all()

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/workers/watch" and self._watches:
            start_stream(exchange)
            while True:
                exchange.chunk(b": keep-alive\n\n")
                exchange.chunk(sse.frame(self._snapshot.model_dump_json()))
                async with self._changed:
                    await self._changed.wait()
        elif exchange.path == "/workers":
            send_json(exchange, 200, self._snapshot.model_dump(mode="json"))
        elif exchange.path.endswith("/reports"):
            self.shown = exchange.headers.get("authorization")
            await self.reports.put((exchange.path.split("/")[2], json.loads(exchange.body)))
            exchange.raw(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif exchange.path == "/services":
            send_json(exchange, 200, {"services": [{"name": "w", "kind": "worker", "status": "ready"}]})
        elif exchange.path == "/gpu-stats":
            send_json(exchange, 200, {"gpus": None, "reason": "none reported"})
        else:
            send_json(exchange, 404, {})
