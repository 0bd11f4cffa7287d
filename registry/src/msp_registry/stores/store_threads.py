"""Calls that block, in threads, of which a cancellation leaves none running unseen."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, move_on_after, to_thread

_GRACE_S = 10.0

P = ParamSpec("P")
T = TypeVar("T")


def _nothing() -> None:
    """For calls that cannot be hurried."""


class StoreThreads:
    """A bounded number of threads for one store.

    A call that is cancelled after it has begun is waited for before the cancellation goes on: it holds the
    caller's bytes and files. A server that hangs is left after `grace_s`; its thread then still counts.
    """

    def __init__(self, count: int, *, grace_s: float = _GRACE_S) -> None:
        self._limiter = CapacityLimiter(count)
        self._grace_s = grace_s

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns or raises."""
        return await self.run_hurried(_nothing, functools.partial(work, *args, **kwargs))

    async def run_hurried(self, hurry: Callable[[], None], work: Callable[[], T]) -> T:
        """The same; `hurry` is called on a cancellation and should make `work` end soon. It must not wait."""
        begun = False

        def call() -> T:
            nonlocal begun
            begun = True
            return work()

        task = asyncio.ensure_future(to_thread.run_sync(call, limiter=self._limiter))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if begun:
                hurry()
            else:
                task.cancel()
            # Shielded, because a cancelled anyio scope cancels every wait inside it anew.
            with move_on_after(self._grace_s, shield=True):
                await asyncio.wait([task])
            task.add_done_callback(_look_at)
            raise


def _look_at(task: "asyncio.Future[Any]") -> None:
    # Nobody is left to tell it to; asyncio complains of exceptions that nobody looked at.
    if not task.cancelled():
        task.exception()
