"""How many CPUs this process may really use: the control group's quota, not the machine's core count.

Threads beyond the quota make tensor code several times slower: each barrier waits for a thread that the
kernel has throttled.
"""

import math
import os
from collections.abc import Callable
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


def cpu_quota(read: ReadText = read_text) -> float | None:
    """The smallest CPU limit of this process's control groups, in CPUs; null when nothing limits it.

    Reads both versions of control groups. A group's ancestors limit it too. In a container the path in
    /proc/self/cgroup may be the host's, of which only the root is mounted: groups not found are skipped.
    """
    limits: list[float] = []
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        groups = [str(p) for p in (PurePosixPath(path), *PurePosixPath(path).parents)] if path else ["/"]
        if controllers == "":
            limits += (_v2(read(f"{_ROOT}{group.rstrip('/')}/cpu.max")) for group in groups)
        elif "cpu" in controllers.split(","):
            for mount in dict.fromkeys((controllers, "cpu", "cpu,cpuacct")):
                for group in groups:
                    base = f"{_ROOT}/{mount}{group.rstrip('/')}"
                    limits.append(_v1(read(f"{base}/cpu.cfs_quota_us"), read(f"{base}/cpu.cfs_period_us")))
    smallest = min(limits, default=math.inf)
    return None if math.isinf(smallest) else smallest


def _v2(cpu_max: str | None) -> float:
    quota, period = [*(cpu_max or "max").split(), "100000"][:2]
    return math.inf if quota == "max" else int(quota) / int(period)


def _v1(quota: str | None, period: str | None) -> float:
    if quota is None or period is None or int(quota) <= 0:
        return math.inf
    return int(quota) / int(period)


def usable_cpus(quota: float | None, affinity: int) -> int:
    """Whole CPUs within the quota and the CPUs the process is pinned to; at least 1."""
    return max(1, min(affinity, affinity if quota is None else math.floor(quota)))


def affinity() -> int:
    """CPUs that the kernel may run this process on."""
    return len(os.sched_getaffinity(0))


def engine_threads(requested: int | None, cpus: int, workers_per_host: int) -> int:
    """Threads for tensor work: what was asked for, else a fair share; never more than `cpus`."""
    return min(cpus, requested) if requested is not None else max(1, cpus // workers_per_host)
