"""One GPU's figures, as NVML gives them."""

from collections.abc import Callable
from typing import Any, TypeVar

from msp_common.contracts.gpus import Gpu, GpuProcess

_T = TypeVar("_T")

_THROTTLING = {
    0x04: "power_cap",
    0x08: "hardware_slowdown",
    0x20: "thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
}
"""Bits of nvmlClocksEventReasons (nvml.h) that slow a busy GPU down; the others are idleness or wishes."""


def read_one(nvml: Any, handle: Any, index: int) -> Gpu:
    """One GPU. Raises NVMLError when it is lost; a single figure that the driver refuses is null."""

    def figure(read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                raise
            return None

    memory = figure(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    utilization = figure(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    power_mw = figure(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    energy_mj = figure(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    slowed_by = figure(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    processes = figure(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return Gpu(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_total_bytes=memory.total if memory else None,
        memory_used_bytes=memory.used if memory else None,
        utilization_percent=utilization.gpu if utilization else None,
        temperature_c=figure(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        power_w=None if power_mw is None else power_mw / 1000,
        energy_j=None if energy_mj is None else energy_mj / 1000,
        throttled_by=None if slowed_by is None else [n for bit, n in _THROTTLING.items() if slowed_by & bit],
        ecc_errors=figure(
            lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            )
        ),
        processes=[GpuProcess(pid=p.pid, memory_used_bytes=p.usedGpuMemory) for p in processes or []],
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
