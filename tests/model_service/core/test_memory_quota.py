"""What memory is left follows the machine and the control groups, in both versions of these."""

import pytest

from msp_model_service.memory_quota import free_memory

FS = "/sys/fs/cgroup"
MEMINFO = {"/proc/meminfo": "MemTotal: 9000 kB\nMemFree: 7 kB\nMemAvailable:   2048 kB\n"}
MACHINE = 2048 * 1024


def v2(group: str, limit: str, used: int, inactive: int = 0) -> dict[str, str]:
    return {
        f"{FS}{group}/memory.max": f"{limit}\n",
        f"{FS}{group}/memory.current": f"{used}\n",
        f"{FS}{group}/memory.stat": f"anon 5\ninactive_file {inactive}\nactive_file 3\n",
    }


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        (MEMINFO, MACHINE),
        ({**MEMINFO, "/proc/self/cgroup": "0::/\n", **v2("", "max", 10)}, MACHINE),
        ({**MEMINFO, "/proc/self/cgroup": "0::/\n", **v2("", "1000", 400)}, 600),
        ({**MEMINFO, "/proc/self/cgroup": "0::/\n", **v2("", "9000000", 400)}, MACHINE),
        # The weights that have just been read are still cached, and make room when it is needed.
        ({"/proc/self/cgroup": "0::/\n", **v2("", "1000", 900, inactive=300)}, 400),
        # The process's own group is generous, but its parent is not; the host's path is not mounted here.
        ({"/proc/self/cgroup": "0::/a/b\n", **v2("/a/b", "max", 1), **v2("/a", "500", 100)}, 400),
        ({"/proc/self/cgroup": "0::/docker/abc\n", **v2("", "300", 100)}, 200),
        ({"/proc/self/cgroup": "0::/\n", **v2("", "100", 300)}, 0),
        (
            {
                "/proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
                f"{FS}/memory/memory.limit_in_bytes": "1000\n",
                f"{FS}/memory/memory.usage_in_bytes": "700\n",
                f"{FS}/memory/memory.stat": "inactive_file 9\ntotal_inactive_file 200\n",
            },
            500,
        ),
        # Version 1 says "no limit" by a number.
        (
            {
                **MEMINFO,
                "/proc/self/cgroup": "4:memory:/\n",
                f"{FS}/memory/memory.limit_in_bytes": "9223372036854771712\n",
                f"{FS}/memory/memory.usage_in_bytes": "700\n",
            },
            MACHINE,
        ),
    ],
)
def test_the_tightest_limit_counts(files: dict[str, str], left: int | None) -> None:
    assert free_memory(files.get) == left
