"""A job's changes as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator

import anyio
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from msp_common import sse
from msp_common.contracts.jobs import Job

KEEP_ALIVE_S = 15.0
"""Proxies close what is silent for longer; nginx after a minute, others after half of one."""

KEEP_ALIVE = b": keep-alive\n\n"


async def framed(watching: AsyncGenerator[Job, None], keep_alive_s: float) -> AsyncGenerator[bytes, None]:
    """Each job as one event `job`, and a comment whenever there was nothing to say for `keep_alive_s`."""
    upcoming = asyncio.ensure_future(anext(watching))
    try:
        while True:
            done, _ = await asyncio.wait([upcoming], timeout=keep_alive_s)
            if not done:
                yield KEEP_ALIVE
                continue
            try:
                job = upcoming.result()
            except StopAsyncIteration:
                return
            yield sse.frame(job.model_dump_json(), event="job")
            upcoming = asyncio.ensure_future(anext(watching))
    finally:
        upcoming.cancel()
        await asyncio.wait([upcoming])
        await watching.aclose()


class JobEvents(StreamingResponse):
    """The events of one job. A client that leaves stops the watching.

    Starlette leaves the generator suspended when the client hangs up while an event is being sent.
    """

    media_type = sse.MEDIA_TYPE

    def __init__(self, watching: AsyncGenerator[Job, None], *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._frames = framed(watching, keep_alive_s)
        super().__init__(self._frames, headers=sse.HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._frames.aclose()
