"""In which precision weights are loaded on a CPU."""

from collections.abc import Callable
from typing import Any

import torch

from msp_model_service.control_groups import ReadText, read_text

_FAST_BF16 = frozenset({"avx512_bf16", "amx_bf16"})


def cpu_has_fast_bf16(read: ReadText = read_text) -> bool:
    """Whether the processor multiplies bfloat16 natively; elsewhere it is slower than float32."""
    lines = (read("/proc/cpuinfo") or "").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _FAST_BF16.isdisjoint(flags.split())


def cpu_dtype(config: Any, fast_bf16: Callable[[], bool] = cpu_has_fast_bf16) -> torch.dtype:
    """bfloat16 for weights that are stored in it, where the processor has it; else float32.

    Weights that were stored with more precision keep it.
    """
    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return torch.bfloat16 if stored is torch.bfloat16 and fast_bf16() else torch.float32
