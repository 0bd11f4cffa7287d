"""Following a job of the registry to its end, through broken streams and restarts of the registry."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from msp_cli.registry_api import RegistryApi, ServiceAway
from msp_common.contracts.jobs import Job

PATIENCE_S = 300
"""How long a registry may be away: a restart with a large store takes minutes, and its jobs carry on."""

PAUSE_S = 0.5
"""Between two looks while there is no stream."""


class Watcher(Protocol):
    """Who is shown a job while it goes on."""

    def tell(self, job: Job) -> None:
        """The job has changed, perhaps."""

    def away(self, job: Job, why: str) -> None:
        """The registry cannot be asked for now; the job is as last told."""


async def begin(
    ask: Callable[[], Awaitable[Job]],
    *,
    patience_s: float,
    pause_s: float = PAUSE_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """The job that `ask` begins; asking again is safe, since the same request is answered with the same job.

    Raises ServiceAway once the registry has been away for `patience_s`, and ServiceRefused.
    """
    since = clock()
    while True:
        try:
            return await ask()
        except ServiceAway:
            if clock() - since >= patience_s:
                raise
        await sleep(pause_s)


async def follow(
    api: RegistryApi,
    job: Job,
    watcher: Watcher,
    *,
    patience_s: float = PATIENCE_S,
    pause_s: float = PAUSE_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """The job once it has ended: told by its event stream, and by asking wherever the stream breaks.

    Raises ServiceAway once the registry has been away for `patience_s`, and ServiceAnsweredBadly when it
    knows no such job.
    """
    watcher.tell(job)
    heard_at = clock()
    while not job.state.ended:
        try:
            async with aclosing(api.events(job.id)) as events:
                async for job in events:
                    heard_at = clock()
                    watcher.tell(job)
                    if job.state.ended:
                        return job
        except ServiceAway as error:
            watcher.away(job, str(error))
        # A stream that ends before its job does was cut by a proxy, or by a registry that stops: ask.
        try:
            job = await api.job(job.id)
            heard_at = clock()
            watcher.tell(job)
        except ServiceAway as error:
            watcher.away(job, str(error))
            if clock() - heard_at >= patience_s:
                raise
        if not job.state.ended:
            await sleep(pause_s)
    return job
