"""What work inside a job tells of itself."""

from collections.abc import Sequence
from typing import Protocol

from msp_common.contracts.jobs import BadFile, JobState


class Progress(Protocol):
    """Told by the mirror, the importer and the verifier; kept by the job."""

    async def enter(self, state: JobState, *, commit: str | None = None) -> None:
        """The next stage has begun; the commit as soon as it is known. Raises StoreError."""

    def expect(self, files: Sequence[tuple[str, int]]) -> None:
        """Path and size of every file that there is to do."""

    def moved(self, path: str, n_bytes: int) -> None:
        """So many more bytes of a file are done; negative when some must be done again."""

    def resumed(self, path: str, n_bytes: int) -> None:
        """So many bytes of a file were stored by an earlier run: done, without having moved now."""

    def file_done(self, path: str) -> None:
        """The file is stored and verified, whatever was told of its bytes before."""

    def found_bad(self, bad: BadFile) -> None:
        """A verification found this; told again with `repaired` once it is."""
