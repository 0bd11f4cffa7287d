"""When failing work means that the engine itself is broken."""

import logging

IN_A_ROW = 3
"""So many unexpected errors without a success between them mean that the engine itself is broken."""

log = logging.getLogger(__name__)


class Failures:
    """Counts unexpected errors. `broken_by` are those after which no later work can succeed."""

    def __init__(self, name: str, broken_by: tuple[type[BaseException], ...] = ()) -> None:
        self._name = name
        self._broken_by = broken_by
        self._count = 0
        self._problem: str | None = None

    def fatal(self, error: BaseException) -> bool:
        """Whether trying again is of no use."""
        return isinstance(error, self._broken_by)

    def note(self, error: BaseException) -> None:
        """Work failed for a reason that the request does not explain."""
        self._count += 1
        log.error("engine %s: work failed: %r", self._name, error)
        if self.fatal(error):
            self._problem = f"the device failed and needs a new process: {error}"
        elif self._count >= IN_A_ROW:
            self._problem = f"{self._count} requests in a row failed, the last with {error!r}"

    def note_success(self) -> None:
        """Work succeeded: the engine can do its job."""
        self._count = 0

    def problem(self) -> str | None:
        """Why no work can succeed any more; null while it can."""
        return self._problem
