"""NVML, by nvidia-ml-py.

It knows nothing of CUDA_VISIBLE_DEVICES; `pinning.visible` applies it, so that a worker pinned that way
(outside a container) reports its own GPU only.
"""

from types import ModuleType
from typing import Any, Protocol, cast

from msp_common.contracts.gpus import Gpu, GpuReport
from msp_model_service.gpus.figures import read_one
from msp_model_service.gpus.loss import explained
from msp_model_service.gpus.pinning import visible
from msp_model_service.gpus.xid import XidEvents


class GpuReader(Protocol):
    """Reads the GPUs of this machine. Calls block."""

    def read(self) -> GpuReport:
        """All GPUs that can be seen, or null with the reason. Never raises for a GPU's fault."""

    def close(self) -> None:
        """Release the driver's library; also safe when nothing was read."""


class NvmlReader:
    """GpuReader over nvidia-ml-py, which is imported at the first reading."""

    def __init__(self, nvml: Any = None, cuda_visible_devices: str | None = None) -> None:
        """`nvml` stands in for the module `pynvml`; by default that is imported."""
        self._nvml = nvml
        self._cuda_visible_devices = cuda_visible_devices
        self._xids: XidEvents | None = None
        self._had: list[Gpu] = []

    def read(self) -> GpuReport:
        """See GpuReader. After a failed start it tries again at the next reading: a driver may come later."""
        nvml = self._nvml = self._nvml or _import_pynvml()
        if self._xids is None:
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                return GpuReport(reason=explained("NVML cannot be used here", error.value, error, self._had))
            self._xids = XidEvents(nvml)
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            # The library may have outlived a driver reload; a fresh start is the only way back.
            self.close()
            return GpuReport(reason=explained("NVML stopped answering", error.value, error, self._had))
        gpus: list[Gpu] = []
        faults: list[str] = []
        for index in range(count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                self._xids.watch(handle)
                gpus.append(read_one(nvml, handle, index))
            except nvml.NVMLError as error:
                faults.append(explained(f"GPU {index}", error.value, error, self._had))
        xids = self._xids.seen()
        gpus = [gpu.model_copy(update={"xids": xids.get(gpu.uuid, [])}) for gpu in gpus]
        report = _report(gpus, faults, self._cuda_visible_devices)
        self._had = report.gpus or self._had
        return report

    def close(self) -> None:
        """See GpuReader."""
        if self._xids is not None:
            self._xids.close()
            self._xids = None
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError:
                return  # the driver is gone already: there is nothing left to release


def _import_pynvml() -> ModuleType:
    import pynvml

    return cast(ModuleType, pynvml)


def _report(gpus: list[Gpu], faults: list[str], cuda_visible_devices: str | None) -> GpuReport:
    shown = visible(gpus, cuda_visible_devices)
    if shown:
        return GpuReport(gpus=shown, reason="; ".join(faults) or None)
    if faults:
        return GpuReport(reason="; ".join(faults))
    if gpus:
        return GpuReport(
            reason=f"CUDA_VISIBLE_DEVICES={cuda_visible_devices} names none of the {len(gpus)} GPUs NVML sees"
        )
    return GpuReport(reason="NVML sees no GPU")
