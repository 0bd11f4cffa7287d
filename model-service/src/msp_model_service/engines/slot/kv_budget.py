"""How much memory the rows may take."""

from pathlib import Path

import torch

GPU_SHARE = 0.8
"""Of the GPU memory that is left to this process; the rest is for what forward passes compute."""

CPU_SHARE = 0.3
"""Of the main memory that is free: other programs live there too."""

_CGROUP = Path("/sys/fs/cgroup")


def kv_bytes(device: torch.device, gpu_memory_fraction: float) -> int:
    """Bytes for keys and values, by what is free now that the weights are loaded."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        allowed = gpu_memory_fraction * total - torch.cuda.memory_reserved(device)
        return int(GPU_SHARE * max(0, min(free, allowed)))
    limits = [_meminfo_available(_text(Path("/proc/meminfo"))), _cgroup_left()]
    known = [limit for limit in limits if limit is not None]
    return int(CPU_SHARE * min(known)) if known else 2**30


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _meminfo_available(meminfo: str) -> int | None:
    line = next((line for line in meminfo.splitlines() if line.startswith("MemAvailable:")), None)
    return int(line.split()[1]) * 1024 if line else None


def _cgroup_left() -> int | None:
    """What the container's limit leaves; None where there is no limit."""
    for limit, used in (
        (_CGROUP / "memory.max", _CGROUP / "memory.current"),
        (_CGROUP / "memory/memory.limit_in_bytes", _CGROUP / "memory/memory.usage_in_bytes"),
    ):
        most, now = _text(limit).strip(), _text(used).strip()
        if most.isdigit() and now.isdigit():
            return max(0, int(most) - int(now))
    return None
