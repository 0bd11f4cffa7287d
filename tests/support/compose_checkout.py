"""A copy of the repository in which a user's command lines are typed, just as they are written."""

import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path

from support.compose_stack import REPOSITORY
from support.user_commands import COMMANDS, NEW_MODEL

KEPT = ("PATH", "HOME", "DOCKER_CONFIG")
"""Of the caller's environment; another variable there might win over `.env`."""


class CommandFailed(AssertionError):
    """A command line ended with an error, or did not print what was waited for; carries what it printed."""


class Checkout:
    """The repository as a clone has it, and a shell in it."""

    def __init__(self, folder: Path, *, docker_host: str | None = None) -> None:
        self.folder = folder
        self.docker_host = docker_host or os.environ.get("DOCKER_HOST")
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(listing, cwd=REPOSITORY, check=True, capture_output=True, text=True)
        for name in done.stdout.split("\0"):
            if name and (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)

    def types(self, command: str) -> str:
        """Runs one of the user's command lines; gives its standard output. Raises CommandFailed."""
        return self._run(COMMANDS[command].line).stdout

    def sees(self, command: str) -> str:
        """As `types`; gives what stands on the screen, messages and errors included."""
        done = self._run(COMMANDS[command].line)
        return done.stdout + done.stderr

    def shell(self, line: str) -> str:
        """Runs any line in bash; a program that fails within a pipe counts."""
        return self._run(line).stdout

    def _run(self, line: str, *, timeout_s: float = 1200) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise CommandFailed(f"{line} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def follows(self, command: str, until: str, *, timeout_s: float = 30) -> str:
        """Runs a line that never ends by itself until it printed a text, then presses Ctrl-C."""
        line = COMMANDS[command].line
        shell = subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        timer = threading.Timer(timeout_s, os.killpg, (shell.pid, signal.SIGKILL))
        timer.start()
        seen: list[str] = []
        try:
            assert shell.stdout
            for printed in shell.stdout:
                seen.append(printed)
                if until in printed:
                    return "".join(seen)
        finally:
            timer.cancel()
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGINT)
            shell.communicate()
        raise CommandFailed(f"{line} did not print {until!r} within {timeout_s} s:\n{''.join(seen)}")

    def sets(self, **settings: str) -> None:
        """Edits lines of `.env` that are there."""
        for name, value in settings.items():
            self.edits(".env", rf"^{name}=.*$", f"{name}={value}")

    def edits(self, file: str, pattern: str, replacement: str, *, places: int = 1) -> None:
        """Replaces a text in a file; fails where it is not there so many times."""
        path = self.folder / file
        text, count = re.subn(pattern, lambda _: replacement, path.read_text(), flags=re.MULTILINE)
        assert count == places, f"{pattern} is in {file} {count} times, not {places}"
        path.write_text(text)

    def adds_the_new_model(self) -> None:
        """The user's five lines, at the end of the services."""
        self.edits("docker-compose.yml", r"^networks:$", f"{NEW_MODEL}\nnetworks:")

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return {**kept, "DOCKER_HOST": self.docker_host} if self.docker_host else kept
