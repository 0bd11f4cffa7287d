"""What a person sees while services start: a live table on a terminal, a line per change elsewhere."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table


class Board:
    """One line per thing that is being started."""

    def __init__(self, console: Console, names: Iterable[str]) -> None:
        self._console = console
        self._lines: dict[str, tuple[str, float | None]] = dict.fromkeys(names, ("waiting", None))
        self._live = Live(get_renderable=self._table, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        """Start showing."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        if self._console.is_terminal:
            self._live.stop()

    def show(self, name: str, doing: str, progress: float | None = None) -> None:
        """Say what something is doing now; `progress` is from 0 to 1."""
        before, self._lines[name] = self._lines.get(name), (doing, progress)
        if not self._console.is_terminal and (before is None or before[0] != doing):
            self._console.print(f"{name}: {doing}", markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, (doing, progress) in self._lines.items():
            share = "" if progress is None else f"{progress:.0%}"
            table.add_row(f"[bold]{escape(name)}", escape(doing), share)
        return table
