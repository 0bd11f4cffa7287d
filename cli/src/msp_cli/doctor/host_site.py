"""The installation on this host: commands are run here, or were run on the host before this began.

In the container that ./scripts/msp starts there is no Docker client and no socket of Docker, which would be
as good as root on the host: the script runs the commands outside, and hands their outputs in as a folder.
"""

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from msp_cli.doctor import airgap_probe
from msp_cli.doctor.airgap import HOST, read_attempts
from msp_cli.doctor.site import COMMANDS, Answer, PathFacts, Ran, Reached, Unknown

COMMAND_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 60.0
HTTP_TIMEOUT_S = 5.0
LOG_LINES = 1000
_NOT_FOUND = 127
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class HostSite:
    """A Site. With `recorded`, commands, logs and probes come from that folder, and none is run."""

    def __init__(self, root: Path, recorded: Path | None = None) -> None:
        self._root = root
        self._recorded = recorded

    def run(self, name: str) -> Ran | Unknown:
        """See Site."""
        command = COMMANDS[name]
        if self._recorded is not None:
            return _record(self._recorded / name, command[0])
        return _ran(command, cwd=self._root, timeout=COMMAND_TIMEOUT_S)

    def read(self, path: str) -> str | Unknown:
        """See Site."""
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return _unreadable(path, error)

    def stat(self, path: str) -> PathFacts | Unknown:
        """See Site."""
        try:
            found = (self._root / path).stat()
        except OSError as error:
            return _unreadable(path, error)
        return PathFacts(found.st_mode & 0o7777, found.st_uid, (self._root / path).is_dir())

    def get(self, url: str) -> Answer | Unknown:
        """See Site."""
        try:
            # On this host there is nobody in between, and certificates are made out to other names.
            verified = urlsplit(url).hostname not in _LOOPBACK
            answer = httpx.get(url, timeout=HTTP_TIMEOUT_S, trust_env=False, verify=verified)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Unknown(f"{url}: {str(error) or type(error).__name__}")
        return Answer(answer.status_code, answer.text, answer.headers.get("date"))

    def logs(self, containers: Sequence[str]) -> Mapping[str, str | Unknown]:
        """See Site."""
        return {name: self._log(name) for name in containers}

    def probes(self, containers: Sequence[str], image: str | None) -> Mapping[str, list[Reached] | Unknown]:
        """See Site."""
        if self._recorded is not None:
            kept = self._recorded / "airgap"
            return {name: _attempts(_record(kept / name, "probe")) for name in (HOST, *containers)}
        source = Path(airgap_probe.__file__).read_text(encoding="utf-8")
        commands: dict[str, tuple[str, ...] | None] = {HOST: (sys.executable, "-")}
        for name in containers:
            commands[name] = beside(name, image) if image else None
        with ThreadPoolExecutor(max_workers=4) as pool:
            tried = {
                name: pool.submit(_ran, command, cwd=self._root, timeout=PROBE_TIMEOUT_S, stdin=source)
                for name, command in commands.items()
                if command is not None
            }
            no_image = Unknown("there is no image with Python to try from")
            return {n: _attempts(tried[n].result()) if n in tried else no_image for n in commands}

    def now(self) -> float:
        """See Site."""
        return time.time()

    def _log(self, container: str) -> str | Unknown:
        if not _SAFE.fullmatch(container):
            return Unknown(f"{container!r} is no container's name")
        if self._recorded is not None:
            ran = _record(self._recorded / "logs" / container, "docker logs")
        else:
            command = ("docker", "logs", "--timestamps", "--tail", str(LOG_LINES), container)
            ran = _ran(command, cwd=self._root, timeout=COMMAND_TIMEOUT_S)
        if isinstance(ran, Unknown):
            return ran
        return ran.out + ran.err


def beside(container: str, image: str) -> tuple[str, ...]:
    """Runs Python within a container's network, and with nothing else of it."""
    return (
        "docker", "run", "--rm", "-i", "--pull", "never", "--network", f"container:{container}",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--entrypoint", "python3",
        image, "-",
    )  # fmt: skip


def _ran(command: Sequence[str], *, cwd: Path, timeout: float, stdin: str | None = None) -> Ran | Unknown:
    try:
        done = subprocess.run(  # noqa: S603  (fixed commands; names come from Docker itself)
            command,
            cwd=cwd,
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except FileNotFoundError:
        return Unknown(f"{command[0]} is not installed here", absent=True)
    except OSError as error:
        return Unknown(f"{command[0]} cannot be run: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Unknown(f"{command[0]} gave no answer within {timeout:.0f} s")
    return Ran(done.returncode, done.stdout, done.stderr)


def _record(path: Path, program: str) -> Ran | Unknown:
    """What scripts/lib/host_facts.sh kept: NAME.out, NAME.err and NAME.code."""
    try:
        out, err, code = (
            path.with_name(path.name + end).read_text(encoding="utf-8", errors="replace")
            for end in (".out", ".err", ".code")
        )
        number = int(code)
    except (OSError, ValueError):
        return Unknown(f"{program} was not run on the host")
    if number == _NOT_FOUND:
        return Unknown(f"{program} is not installed on the host", absent=True)
    return Ran(number, out, err)


def _attempts(ran: Ran | Unknown) -> list[Reached] | Unknown:
    if isinstance(ran, Unknown):
        return ran
    if ran.code:
        return Unknown(f"the probe ended with {ran.code}: {(ran.err or ran.out).strip()[-300:]}")
    return read_attempts(ran.out)


def _unreadable(path: str, error: OSError) -> Unknown:
    return Unknown(
        f"{path}: {error.strerror}", absent=isinstance(error, FileNotFoundError | NotADirectoryError)
    )
