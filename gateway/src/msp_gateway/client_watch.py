"""Notices that the client left while its request is worked on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from msp_gateway.body import ClientLeft


@asynccontextmanager
async def until_client_leaves(receive: Receive) -> AsyncIterator[None]:
    """Run the block; when the client leaves meanwhile, cancel it and raise ClientLeft.

    For requests whose body has been read whole. `receive` must be watched, for `send` says nothing of a
    client that left. The end of an answer looks like a leaving too: send it after the block.
    """
    task = asyncio.current_task()
    assert task is not None, "ASGI applications run in tasks"  # noqa: S101
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        watcher.cancel()
