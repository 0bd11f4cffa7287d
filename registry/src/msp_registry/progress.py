"""What work inside a job tells of itself."""

from typing import Protocol

from msp_common.contracts.jobs import JobState


class Progress(Protocol):
    """Told by the mirror and the importer, kept by the job."""

    async def enter(self, state: JobState, *, commit: str | None = None) -> None:
        """The next stage has begun; the commit as soon as it is known."""

    async def expect(self, *, total_bytes: int, files: int) -> None:
        """How much there is to do."""

    async def moved(self, n_bytes: int) -> None:
        """So many more bytes are done; negative when some must be done again."""

    async def file_done(self) -> None:
        """One more file is stored and verified."""
