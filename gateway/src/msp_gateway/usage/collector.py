"""Asks every worker what its requests used, by one long poll each."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx
from pydantic import ValidationError

from msp_common.contracts.usage import UsageReport
from msp_common.contracts.workers import Worker
from msp_gateway.usage.ledger import UsageSink

WAIT_S = 20.0
"""How long a worker may hold an answer back while it has nothing to tell."""
LOOK_AGAIN_S = 1.0
"""How often it is looked which workers there are."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
NOT_TOLD_DELAY_S = 60.0
"""When a worker is asked again that does not know the route: an external server, or an old worker."""

log = logging.getLogger(__name__)


class UsageAway(Exception):
    """The worker did not tell; `known` says whether it knows the route at all."""

    def __init__(self, reason: str, *, known: bool = True) -> None:
        super().__init__(reason)
        self.known = known


class UsageSource(Protocol):
    """Workers' reports."""

    async def report(self, url: str, after: int, epoch: float | None) -> UsageReport:
        """What is new at the worker with this base URL; waits until there is something. Raises UsageAway."""


class HttpUsageSource:
    """`GET /usage` over HTTP. The client shows the cluster's token."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def report(self, url: str, after: int, epoch: float | None) -> UsageReport:
        """What is new at this worker; an empty report after some time without news. Raises UsageAway."""
        params: dict[str, str | float] = {"after": after, "wait_s": WAIT_S}
        if epoch is not None:
            params["epoch"] = repr(epoch)
        try:
            answer = await self._client.get(f"{url}/usage", params=params, timeout=WAIT_S + 10)
        except httpx.HTTPError as error:
            raise UsageAway(f"{type(error).__name__} {error}") from error
        if answer.status_code != 200:
            raise UsageAway(
                f"status {answer.status_code}", known=answer.status_code not in (401, 403, 404, 405)
            )
        try:
            return UsageReport.model_validate_json(answer.content)
        except ValidationError as error:
            raise UsageAway(f"not understood: {error}", known=False) from error


@dataclass
class _Cursor:
    after: int = 0
    epoch: float | None = None


class UsageCollector:
    """`run` is a background task with one task of its own for each worker."""

    def __init__(
        self,
        source: UsageSource,
        workers: Callable[[], Sequence[Worker]],
        sink: UsageSink,
        look_again_s: float = LOOK_AGAIN_S,
    ) -> None:
        self._source = source
        self._workers = workers
        self._sink = sink
        self._look_again_s = look_again_s
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._cursors: dict[tuple[str, str], _Cursor] = {}

    async def run(self) -> None:
        """Follow all workers that requests may be sent to, for ever.

        Never an external server: it does not know the route, and the cluster's token is not for it.
        """
        try:
            while True:
                own = [w for w in self._workers() if w.external is None]
                self._follow(
                    {(w.id, w.lease.url) for w in own if w.verdict.routable},
                    {(w.id, w.lease.url) for w in own},
                )
                await asyncio.sleep(self._look_again_s)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _follow(self, wanted: set[tuple[str, str]], known: set[tuple[str, str]]) -> None:
        for where, task in list(self._tasks.items()):
            # One that drains still ends requests: it is followed until it is gone.
            if where not in known or task.done():
                task.cancel()
                del self._tasks[where]
        self._cursors = {where: cursor for where, cursor in self._cursors.items() if where in known}
        for where in wanted - self._tasks.keys():
            cursor = self._cursors.setdefault(where, _Cursor())
            self._tasks[where] = asyncio.create_task(self._one(*where, cursor))

    async def _one(self, worker_id: str, url: str, cursor: _Cursor) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            try:
                report = await self._source.report(url, cursor.after, cursor.epoch)
            except UsageAway as error:
                log.debug("no usage from %s: %s", worker_id, error)
                pause_s = delay_s if error.known else NOT_TOLD_DELAY_S
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                delay_s = min(2 * delay_s, LONGEST_DELAY_S)
                continue
            delay_s = FIRST_DELAY_S
            first = cursor.epoch is None
            cursor.epoch, cursor.after = report.epoch, report.next
            if report.lost and not first:
                log.warning("%s forgot the usage of %d requests before it was asked", worker_id, report.lost)
            for usage in report.requests:
                self._sink.used(usage)
