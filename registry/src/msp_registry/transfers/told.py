"""What a job's progress has heard of one file."""

from msp_registry.jobs.progress import Progress


class Told:
    """Tells the progress of one file, and remembers it so that it can be taken back."""

    def __init__(self, progress: Progress, path: str) -> None:
        self._progress = progress
        self._path = path
        self._bytes = 0

    def moved(self, n_bytes: int) -> None:
        """As Progress."""
        self._bytes += n_bytes
        self._progress.moved(self._path, n_bytes)

    def resumed(self, n_bytes: int) -> None:
        """As Progress."""
        self._bytes += n_bytes
        self._progress.resumed(self._path, n_bytes)

    def take_back(self) -> None:
        """The file begins anew."""
        self.moved(-self._bytes)
