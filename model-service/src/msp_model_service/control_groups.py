"""The control groups of this process: where the kernel says how much of the machine it may use."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ReadText = Callable[[str], str | None]
"""Text of a file, or null when there is none."""

_ROOT = "/sys/fs/cgroup"


def read_text(path: str) -> str | None:
    """The file's text; null if it is absent or may not be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return None


@dataclass(frozen=True)
class Group:
    """A folder with a control group's files, which have other names in version 1 than in version 2."""

    version: int
    path: str


def folders(controller: str, read: ReadText = read_text) -> Iterator[Group]:
    """Where the limits of `controller` (`cpu`, `memory`) may be; not all of these folders exist.

    A group's ancestors limit it too. In a container the path in /proc/self/cgroup may be the host's, of which
    only the root is mounted.
    """
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        groups = [str(p) for p in (PurePosixPath(path), *PurePosixPath(path).parents)] if path else ["/"]
        if controllers == "":
            yield from (Group(2, f"{_ROOT}{group.rstrip('/')}") for group in groups)
        elif controller in controllers.split(","):
            for mount in dict.fromkeys((controllers, controller, "cpu,cpuacct")):
                yield from (Group(1, f"{_ROOT}/{mount}{group.rstrip('/')}") for group in groups)
