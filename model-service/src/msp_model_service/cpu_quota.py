"""How many CPUs this process may really use: the control group's quota, not the machine's core count.

Threads beyond the quota make tensor code several times slower: each barrier waits for a thread that the
kernel has throttled.
"""

import math
import os

from msp_model_service.control_groups import ReadText, folders, read_text


def cpu_quota(read: ReadText = read_text) -> float | None:
    """The smallest CPU limit of this process's control groups, in CPUs; null when nothing limits it."""
    limits = [
        _v2(read(f"{group.path}/cpu.max"))
        if group.version == 2
        else _v1(read(f"{group.path}/cpu.cfs_quota_us"), read(f"{group.path}/cpu.cfs_period_us"))
        for group in folders("cpu", read)
    ]
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
