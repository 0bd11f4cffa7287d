"""Tasks that run beside the requests."""

import asyncio
import logging

log = logging.getLogger(__name__)


class Background:
    """The tasks of one application. Any that ends by itself makes the service `down`."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, name: str, task: asyncio.Task[None]) -> None:
        """Watch over a task."""
        self._tasks[name] = task
        task.add_done_callback(lambda ended: self._tell(name, ended))

    async def stop(self) -> None:
        """Cancel all, and wait until they have ended."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def ended(self) -> list[str]:
        """The names of those that should run and do not."""
        return [name for name, task in self._tasks.items() if task.done()]

    @staticmethod
    def _tell(name: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the background task %s broke", name, exc_info=error)
