"""What a person sees while bytes move between this machine and the registry."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

QUIET_S = 30
"""Elsewhere than on a terminal: a line this often."""


class ByteBoard:
    """One bar per stage; elsewhere than on a terminal, lines."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        """Start showing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self._progress.stop()

    def stage(self, doing: str, total_bytes: int) -> Callable[[int], None]:
        """Begin a stage; what is returned is told of bytes that have moved."""
        bar = self._progress.add_task(doing, total=total_bytes)
        if not self._console.is_terminal:
            self._say(f"{doing}: {decimal(total_bytes)}")
        done, said_at = 0, self._clock()

        def moved(count: int) -> None:
            nonlocal done, said_at
            done += count
            self._progress.advance(bar, count)
            if not self._console.is_terminal and self._clock() - said_at >= QUIET_S:
                said_at = self._clock()
                self._say(f"{doing}: {decimal(done)} of {decimal(total_bytes)}")

        return moved

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
