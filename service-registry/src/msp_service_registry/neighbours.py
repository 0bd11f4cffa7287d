"""How the registry and the gateway are: asked when somebody wants to know, remembered for a moment."""

import asyncio
from collections.abc import Mapping
from typing import Literal, Protocol

import httpx
from pydantic import ValidationError

from msp_common.contracts.health import Health
from msp_common.contracts.workers import ServiceStatus
from msp_service_registry.clock import Clock

FRESH_S = 1.0
"""An answer that is younger is not asked for again."""

WAIT_S = 0.5
"""How long an asker waits for a fresh answer; later the last known one has to do."""

Kind = Literal["registry", "gateway"]


class HealthReader(Protocol):
    """What asks a program how it is."""

    async def read(self, url: str) -> Health | str:
        """Its health, or why there is none; never raises for what a network can do."""


class HttpHealthReader:
    """Asks `GET /health`."""

    def __init__(self, client: httpx.AsyncClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def read(self, url: str) -> Health | str:
        """Its health, or why there is none."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.get(f"{url}/health")
        except TimeoutError:
            return f"/health gave no answer within {self._timeout_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"/health: {str(error) or type(error).__name__}"
        try:
            return Health.model_validate_json(answer.content)
        except ValidationError:
            return f"/health answered {answer.status_code} with something that is no health report"


class Neighbours:
    """The programs beside the service registry, and their health."""

    def __init__(self, urls: Mapping[Kind, str], reader: HealthReader, clock: Clock) -> None:
        self._urls = urls
        self._reader = reader
        self._clock = clock
        self._known: dict[Kind, Health | str] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def statuses(self) -> list[ServiceStatus]:
        """One line per program, about `FRESH_S` old at most where it answers; returns within `WAIT_S`."""
        if self._urls and self._clock.monotonic() - self._read_at > FRESH_S:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_all())
            await asyncio.wait([self._reading], timeout=WAIT_S)
        return [self._status(kind, url) for kind, url in self._urls.items()]

    async def aclose(self) -> None:
        """Stop asking."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read_all(self) -> None:
        async def read(kind: Kind, url: str) -> None:
            self._known[kind] = await self._reader.read(url)

        async with asyncio.TaskGroup() as group:
            for kind, url in self._urls.items():
                group.create_task(read(kind, url))
        self._read_at = self._clock.monotonic()

    def _status(self, kind: Kind, url: str) -> ServiceStatus:
        health = self._known.get(kind, "/health has not answered yet")
        if isinstance(health, str):
            return ServiceStatus(name=kind, kind=kind, url=url, status="down", reason=health)
        return ServiceStatus(
            name=kind, kind=kind, url=url, status=health.status, reason=health.reason, version=health.version
        )
