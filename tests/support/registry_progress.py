"""Progress that remembers what it was told."""

from collections import Counter
from collections.abc import Sequence

from msp_common.contracts.jobs import BadFile, JobState


class ToldProgress:
    """A Progress."""

    def __init__(self) -> None:
        self.states: list[JobState] = []
        self.commit: str | None = None
        self.expected: dict[str, int] = {}
        self.moved_bytes: Counter[str] = Counter()
        self.resumed_bytes: Counter[str] = Counter()
        """Those of the moved ones that an earlier run had stored."""
        self.done: list[str] = []
        self.bad: list[BadFile] = []

    @property
    def bytes_done(self) -> int:
        """Of the files that are done, all; of the others, what has moved."""
        return sum(self.expected[p] if p in self.done else self.moved_bytes[p] for p in self.expected)

    async def enter(self, state: JobState, *, commit: str | None = None) -> None:
        self.states.append(state)
        self.commit = commit or self.commit

    def expect(self, files: Sequence[tuple[str, int]]) -> None:
        self.expected = dict(files)

    def moved(self, path: str, n_bytes: int) -> None:
        self.moved_bytes[path] += n_bytes

    def resumed(self, path: str, n_bytes: int) -> None:
        self.moved_bytes[path] += n_bytes
        self.resumed_bytes[path] += n_bytes

    def file_done(self, path: str) -> None:
        self.done.append(path)

    def found_bad(self, bad: BadFile) -> None:
        self.bad.append(bad)
