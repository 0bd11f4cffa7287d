"""The service registry as the gateway asks it, over HTTP."""

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import httpx
from pydantic import ValidationError

from msp_common import sse
from msp_common.contracts.base import Contract
from msp_common.contracts.gpus import GpuStats
from msp_common.contracts.workers import Services, Snapshot, WorkerReport

SILENCE_S = 15.0
"""The watch stream sends a comment every 5 s; without anything for so long the connection is dead."""

C = TypeVar("C", bound=Contract)


class ServiceRegistryAway(Exception):
    """The service registry does not answer, or answers what is not understood; the text says what."""


class ServiceRegistryClient:
    """All that the gateway asks of the service registry. Every method raises ServiceRegistryAway."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def snapshot(self) -> Snapshot:
        """`GET /workers`."""
        return await self._get("/workers", Snapshot)

    async def services(self) -> Services:
        """`GET /services`."""
        return await self._get("/services", Services)

    async def gpu_stats(self) -> GpuStats:
        """`GET /gpu-stats`."""
        return await self._get("/gpu-stats", GpuStats)

    async def watch(self, heard: Callable[[], None]) -> AsyncIterator[Snapshot]:
        """`GET /workers/watch`: a snapshot at once and one at every change, until the stream ends.

        `heard` is called for every line, comments included: each shows that the connection lives.
        """
        timeout = httpx.Timeout(self._client.timeout.connect, read=SILENCE_S)
        try:
            async with self._client.stream("GET", f"{self._url}/workers/watch", timeout=timeout) as answer:
                if answer.status_code != 200:
                    raise ServiceRegistryAway(f"GET /workers/watch answered {answer.status_code}")

                async def lines() -> AsyncIterator[str]:
                    async for line in answer.aiter_lines():
                        heard()
                        yield line

                async for event in sse.read(lines()):
                    yield Snapshot.model_validate_json(event.data)
        except httpx.HTTPError as error:
            raise ServiceRegistryAway(f"GET /workers/watch: {type(error).__name__} {error}") from error
        except ValidationError as error:
            raise ServiceRegistryAway(f"GET /workers/watch: not understood: {error}") from error

    async def report(self, worker_id: str, report: WorkerReport) -> None:
        """`POST /workers/{worker_id}/reports`. A worker that is unknown there is no error."""
        path = f"/workers/{worker_id}/reports"
        try:
            answer = await self._client.post(
                f"{self._url}{path}",
                content=report.model_dump_json(),
                headers={"content-type": "application/json"},
            )
        except httpx.HTTPError as error:
            raise ServiceRegistryAway(f"POST {path}: {type(error).__name__} {error}") from error
        if answer.status_code >= 400 and answer.status_code != 404:
            raise ServiceRegistryAway(f"POST {path} answered {answer.status_code}")

    async def _get(self, path: str, contract: type[C]) -> C:
        try:
            answer = await self._client.get(f"{self._url}{path}")
        except httpx.HTTPError as error:
            raise ServiceRegistryAway(f"GET {path}: {type(error).__name__} {error}") from error
        if answer.status_code != 200:
            raise ServiceRegistryAway(f"GET {path} answered {answer.status_code}")
        try:
            return contract.model_validate_json(answer.content)
        except ValidationError as error:
            raise ServiceRegistryAway(f"GET {path}: not understood: {error}") from error
