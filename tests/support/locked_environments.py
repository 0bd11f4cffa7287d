"""Environments beside the development one, for programs whose packages would not get along with ours.

Each is made once, from a file that names every package with its hash, and kept by that file's own hash.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

OLDEST_NODE = 20
"""The oldest that OpenAI's client runs on."""

_INSTALLED_WITHIN_S = 300


class NoEnvironment(Exception):
    """The packages cannot be had."""


def python_with(requirements: Path, environments: Path) -> Path:
    """The Python of an environment with what `requirements` names. Raises NoEnvironment."""
    folder = environments / f"{requirements.stem}-{_digest(requirements)}"
    python = folder / "bin" / "python"
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    into = ["--quiet", "--python", str(python), "--require-hashes", "-r", str(requirements)]
    commands = [
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", *into],
    ]
    _made(folder, requirements.stem, commands)
    return python


def node_packages(manifest: Path, environments: Path) -> Path:
    """A folder with the packages that `package.json` and `package-lock.json` in `manifest` name.

    Raises NoEnvironment.
    """
    files = [manifest / "package.json", manifest / "package-lock.json"]
    folder = environments / f"{manifest.name}-{_digest(*files)}"
    if shutil.which("npm") is None or _node_version() < OLDEST_NODE:
        raise NoEnvironment(f"the packages of {manifest} need npm and Node {OLDEST_NODE} or newer")
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder)
    _made(folder, manifest.name, [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]], inside=True)
    return folder


def _node_version() -> int:
    """The first number of it; 0 where there is none."""
    try:
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30).stdout
    except OSError:
        return 0
    return int(said.strip().removeprefix("v").partition(".")[0] or 0)


def skip_or_fail(error: NoEnvironment) -> NoReturn:
    """Skip where the packages cannot be had; fail on CI, which must have them."""
    if os.environ.get("CI"):
        pytest.fail(str(error))
    pytest.skip(str(error))


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _made(folder: Path, name: str, commands: Sequence[Sequence[str]], *, inside: bool = False) -> None:
    done = folder / "done"
    if done.exists():
        return
    if not inside:
        shutil.rmtree(folder, ignore_errors=True)
    for command in commands:
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                timeout=_INSTALLED_WITHIN_S,
                cwd=folder if inside else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or error
            raise NoEnvironment(f"{name} cannot be installed: {said}") from None
    done.touch()
