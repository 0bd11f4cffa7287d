"""How much memory the rows may take."""

from collections.abc import Callable

import torch

from msp_model_service.memory_quota import free_memory

GPU_SHARE = 0.8
"""Of the GPU memory that is left to this process; the rest is for what forward passes compute."""

CPU_SHARE = 0.3
"""Of the main memory that is free: other programs live there too."""


def kv_bytes(
    device: torch.device,
    gpu_memory_fraction: float,
    *,
    share: float | None = None,
    workers_per_host: int = 1,
    free: Callable[[], int | None] = free_memory,
) -> int:
    """Bytes for keys and values, by what is free now that the weights are loaded.

    `share` of it is taken, and divided among the workers that see the same main memory; what each has of a
    GPU, `gpu_memory_fraction` says already.
    """
    if device.type == "cuda":
        left, total = torch.cuda.mem_get_info(device)
        allowed = gpu_memory_fraction * total - torch.cuda.memory_reserved(device)
        return int((share or GPU_SHARE) * max(0, min(left, allowed)))
    left_here = free()
    return int((share or CPU_SHARE) * left_here / workers_per_host) if left_here is not None else 2**30
