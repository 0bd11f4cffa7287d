"""`pynvml` as far as a worker uses it: the real module's errors and constants, invented GPUs."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml


@dataclass
class FakeGpu:
    uuid: str
    name: str = "NVIDIA H200"
    used: int = 10
    total: int = 100
    utilization: int = 50
    temperature_c: int = 40
    power_mw: int = 250_500
    pids: list[int] = field(default_factory=list)
    unsupported: set[str] = field(default_factory=set)
    lost: bool = False
    energy_mj: int = 3_600_000
    slowed_by: int = 0
    ecc_errors: int = 0
    xids: list[int] = field(default_factory=list)
    """Not yet told."""


class FakeNvml:
    """Counts `nvmlInit` and `nvmlShutdown`; answers like a driver, uninitialised use included."""

    NVMLError = pynvml.NVMLError
    NVML_ERROR_GPU_IS_LOST = pynvml.NVML_ERROR_GPU_IS_LOST
    NVML_ERROR_RESET_REQUIRED = pynvml.NVML_ERROR_RESET_REQUIRED
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    NVML_VOLATILE_ECC = pynvml.NVML_VOLATILE_ECC
    nvmlEventTypeXidCriticalError = pynvml.nvmlEventTypeXidCriticalError

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = list(gpus)
        self.calls: list[str] = []
        self.no_driver = False
        self.fails_with: int | None = None
        """Every call to the driver fails with this code, as in a container that lost its devices."""
        self.watched: list[str] = []
        self._open = False

    def nvmlInit(self) -> None:
        self.calls.append("init")
        if self.no_driver:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        self._open = True

    def nvmlEventSetCreate(self) -> object:
        self._need_open()
        return self

    def nvmlDeviceRegisterEvents(self, gpu: FakeGpu, kinds: int, events: object) -> None:
        assert kinds == pynvml.nvmlEventTypeXidCriticalError
        self.watched.append(gpu.uuid)

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:
        for gpu in self.gpus:
            if gpu.uuid in self.watched and gpu.xids:
                return SimpleNamespace(device=gpu, eventData=gpu.xids.pop(0))
        raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)

    def nvmlEventSetFree(self, events: object) -> None:
        self.watched.clear()

    def nvmlShutdown(self) -> None:
        self.calls.append("shutdown")
        self._need_open()
        self._open = False

    def nvmlDeviceGetCount(self) -> int:
        self._need_open()
        if self.fails_with is not None:
            raise pynvml.NVMLError(self.fails_with)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self._need_open()
        gpu = self.gpus[index]
        if gpu.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return gpu

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> bytes:
        return gpu.name.encode()  # older releases of the binding answer bytes

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        self._need(gpu, "memory")
        return SimpleNamespace(total=gpu.total, used=gpu.used)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:
        self._need(gpu, "utilization")
        return SimpleNamespace(gpu=gpu.utilization)

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:
        self._need(gpu, "temperature")
        return gpu.temperature_c

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        self._need(gpu, "power")
        return gpu.power_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        self._need(gpu, "energy")
        return gpu.energy_mj

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu) -> int:
        self._need(gpu, "throttling")
        return gpu.slowed_by

    def nvmlDeviceGetTotalEccErrors(self, gpu: FakeGpu, kind: int, counter: int) -> int:
        self._need(gpu, "ecc")
        return gpu.ecc_errors

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:
        self._need(gpu, "processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in gpu.pids]

    def _need_open(self) -> None:
        if not self._open:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    def _need(self, gpu: FakeGpu, figure: str) -> None:
        self._need_open()
        if figure in gpu.unsupported:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
