"""Progress that remembers what it was told."""

from msp_common.contracts.jobs import JobState


class ToldProgress:
    """A Progress."""

    def __init__(self) -> None:
        self.states: list[JobState] = []
        self.commit: str | None = None
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self.files_done = 0

    async def enter(self, state: JobState, *, commit: str | None = None) -> None:
        self.states.append(state)
        self.commit = commit or self.commit

    async def expect(self, *, total_bytes: int, files: int) -> None:
        self.bytes_total = total_bytes

    async def moved(self, n_bytes: int) -> None:
        self.bytes_done += n_bytes

    async def file_done(self) -> None:
        self.files_done += 1
