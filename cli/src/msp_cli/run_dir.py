"""The folder of a running cluster: what was started, and where each service's log is."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from msp_cli.processes import ProcessIdentity, alive

BUSY_AFTER_S = 0.5
"""How long to try for the folder; a look by `busy` takes far less."""


class RunDirBusy(Exception):
    """Another `msp` is starting or stopping services here."""


class RunStateUnreadable(Exception):
    """The state file is not what `msp` wrote."""


class RunningService(BaseModel):
    """One service as it was started. Only its process is required: any `msp` can stop what another began."""

    model_config = ConfigDict(frozen=True)

    process: ProcessIdentity
    what: str = ""
    """A worker's model, else the program."""
    url: str = ""
    health_url: str = ""
    wave: int = 0
    """The wave in which it was started; stopped in reverse."""


class RunState(BaseModel):
    """What `state.json` holds."""

    model_config = ConfigDict(frozen=True)

    cluster_file: str
    stop_grace_s: float = 30
    services: dict[str, RunningService] = {}

    def living(self) -> dict[str, RunningService]:
        """The services whose processes still run."""
        return {name: s for name, s in self.services.items() if alive(s.process)}


class RunDir:
    """Reads and writes the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log_of(self, name: str) -> Path:
        """Where a service writes."""
        return self.path / "logs" / f"{name}.log"

    def create(self) -> None:
        """Make the folder."""
        (self.path / "logs").mkdir(parents=True, exist_ok=True)

    def read(self) -> RunState | None:
        """What runs here; None if nothing was started. Raises RunStateUnreadable."""
        try:
            return RunState.model_validate_json(self._state_file.read_text())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise RunStateUnreadable(
                f"{self._state_file} is not what msp wrote ({error.error_count()} mistakes); end the "
                "processes that it lists, if there are any, and delete it"
            ) from None

    def write(self, state: RunState) -> None:
        """Replace what is known, all or nothing."""
        fresh = self._state_file.with_suffix(".new")
        fresh.write_text(state.model_dump_json(indent=2))
        os.replace(fresh, self._state_file)

    def forget(self) -> None:
        """Nothing runs here any more."""
        self._state_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the folder while services are started or stopped. Raises RunDirBusy, unless it shall wait."""
        self.create()
        give_up_at = time.monotonic() + BUSY_AFTER_S
        with self._lock_file.open("w") as lock:
            while not _take(lock, fcntl.LOCK_EX):
                if time.monotonic() > give_up_at and not wait:
                    raise RunDirBusy(f"another msp is starting or stopping services in {self.path}")
                time.sleep(0.05)
            yield

    def busy(self) -> bool:
        """Whether another msp is starting or stopping services here."""
        with self._lock_file.open("w") as lock:
            return not _take(lock, fcntl.LOCK_SH)

    def last_lines(self, name: str, count: int) -> list[str]:
        """The end of a service's log."""
        try:
            with self.log_of(name).open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - 64 * 1024))
                return log.read().decode(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    @property
    def _state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def _lock_file(self) -> Path:
        return self.path / "lock"


def _take(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
