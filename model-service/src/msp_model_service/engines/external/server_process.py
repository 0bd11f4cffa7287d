"""A server that the worker started: its lines go to the log, and its end is noticed."""

import logging
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from msp_common.logs import redact
from msp_model_service.engines.external import guardian
from msp_model_service.engines.external.server_plan import LISTENS_ON

log = logging.getLogger(__name__)

_REMEMBERED_LINES = 8
_LINE_BYTES = 4096
_SHOWN_CHARACTERS = 240
_SECRET_OPTION = re.compile(r"(?i)(key|token|secret|password)$")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((LISTENS_ON, 0))
        return int(sock.getsockname()[1])


def what_ended(code: int) -> str:
    """An exit code as shells have it, for people."""
    if code > 128:
        try:
            return f"was ended by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exited with code {code}"


def shown(command: Sequence[str]) -> str:
    """A command line for the log: what follows an option with the name of a secret is left out."""
    words, hide = [], False
    for word in command:
        name, equals, _ = word.partition("=")
        secret = word.startswith("-") and _SECRET_OPTION.search(name) is not None
        words.append("***" if hide else f"{name}=***" if secret and equals else word)
        hide = secret and not equals
    return shlex.join(words)


class ServerProcess:
    """Runs from its making until `stop`, or until it ends by itself."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stop_within_s: float,
        quiet: Sequence[str] = (),
    ) -> None:
        """Lines with a text out of `quiet` are logged for debugging alone, and not among the last words."""
        self._stop_within_s = stop_within_s
        self._quiet = quiet
        self._lines: deque[str] = deque(maxlen=_REMEMBERED_LINES)
        self._ended: str | None = None
        self._stopping = False
        log.info("starting %s", shown(command))
        self._process = subprocess.Popen(  # noqa: S603 - the operator's own command line, and no shell
            [sys.executable, "-I", str(Path(guardian.__file__)), str(stop_within_s), *command],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, name="server-lines", daemon=True)
        self._reading.start()
        self._waiting = threading.Thread(target=self._wait, name="server-end", daemon=True)
        self._waiting.start()

    def ended(self) -> str | None:
        """How it ended, with its last lines; null while it runs, or ran until it was stopped."""
        return self._ended

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when it is gone, or will not go. Harmless twice."""
        self._stopping = True
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._waiting.join(self._stop_within_s + 2)
        if self._waiting.is_alive():
            log.error("the server did not end within %.0f s of SIGKILL", self._stop_within_s)

    def _read(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            return
        with stdout:
            for raw in iter(lambda: stdout.readline(_LINE_BYTES), b""):
                line = _CONTROL.sub("", raw.decode(errors="replace")).rstrip()
                if any(text in line for text in self._quiet):
                    log.debug("server: %s", line)
                elif line:
                    self._lines.append(redact(line)[:_SHOWN_CHARACTERS])
                    log.info("server: %s", line)

    def _wait(self) -> None:
        code = self._process.wait()
        # What it said last arrives with its end; a helper that outlived it may hold the pipe open.
        self._reading.join(2)
        how = f"the server {what_ended(code)}"
        log.log(logging.INFO if self._stopping else logging.ERROR, how)
        if not self._stopping:
            said = " | ".join(self._lines)
            self._ended = f"{how}; its last lines: {said}" if said else f"{how} without a word"
