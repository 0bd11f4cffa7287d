"""Threads follow the control group's quota, in both versions of control groups."""

import pytest

from msp_model_service.cpu_quota import cpu_quota, engine_threads, usable_cpus

FS = "/sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"/proc/self/cgroup": "0::/\n", f"{FS}/cpu.max": "max 100000\n"}, None),
        ({"/proc/self/cgroup": "0::/\n", f"{FS}/cpu.max": "250000 100000\n"}, 2.5),
        # The process's own group is generous, but its parent is not.
        (
            {
                "/proc/self/cgroup": "0::/user/app\n",
                f"{FS}/user/app/cpu.max": "800000 100000\n",
                f"{FS}/user/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        # The host's path, of which a container sees only the root.
        ({"/proc/self/cgroup": "0::/docker/abc\n", f"{FS}/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "/proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n0::/\n",
                f"{FS}/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                f"{FS}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "/proc/self/cgroup": "1:cpu:/\n",
                f"{FS}/cpu/cpu.cfs_quota_us": "-1\n",
                f"{FS}/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_smallest_limit_on_the_way_up_counts(files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(files.get) == quota


@pytest.mark.parametrize(
    ("quota", "affinity", "cpus"), [(None, 8, 8), (2.5, 8, 2), (0.5, 8, 1), (16.0, 4, 4)]
)
def test_cpus_are_whole_and_within_quota_and_affinity(quota: float | None, affinity: int, cpus: int) -> None:
    assert usable_cpus(quota, affinity) == cpus


@pytest.mark.parametrize(
    ("requested", "cpus", "workers", "threads"),
    [(None, 8, 1, 8), (None, 8, 3, 2), (None, 2, 5, 1), (4, 8, 3, 4), (16, 8, 1, 8)],
)
def test_threads_are_a_fair_share_and_never_above_the_quota(
    requested: int | None, cpus: int, workers: int, threads: int
) -> None:
    assert engine_threads(requested, cpus, workers) == threads
