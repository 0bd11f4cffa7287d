"""The GPUs that this worker sees, by NVML: what they are, how busy they are, and whether it is the right one.

NVML knows nothing of CUDA_VISIBLE_DEVICES; `visible` applies it, so that a worker pinned that way (outside a
container) reports its own GPU only.
"""

import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol, TypeVar, cast

from msp_common.contracts.gpus import Gpu, GpuProcess, GpuReport

READ_EVERY_S = 2.0
STALE_AFTER_S = 15.0
"""NVML calls can hang for good in a sick driver; a report older than this is no longer passed on as news."""

_T = TypeVar("_T")


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
        self._initialised = False

    def read(self) -> GpuReport:
        """See GpuReader. After a failed start it tries again at the next reading: a driver may come later."""
        nvml = self._nvml = self._nvml or _import_pynvml()
        if not self._initialised:
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                return GpuReport(reason=f"NVML cannot be used here: {error}")
            self._initialised = True
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            # The library may have outlived a driver reload; a fresh start is the only way back.
            self.close()
            return GpuReport(reason=f"NVML stopped answering: {error}")
        gpus: list[Gpu] = []
        faults: list[str] = []
        for index in range(count):
            try:
                gpus.append(_read_one(nvml, index))
            except nvml.NVMLError as error:
                faults.append(f"GPU {index}: {error}")
        return _report(gpus, faults, self._cuda_visible_devices)

    def close(self) -> None:
        """See GpuReader."""
        if self._initialised:
            self._initialised = False
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError:
                return  # the driver is gone already: there is nothing left to release


def _import_pynvml() -> ModuleType:
    import pynvml

    return cast(ModuleType, pynvml)


def _read_one(nvml: Any, index: int) -> Gpu:
    """One GPU. Raises NVMLError when it is lost; a single figure that the driver refuses is null."""

    def figure(read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                raise
            return None

    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = figure(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    utilization = figure(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    power_mw = figure(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
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
        processes=[GpuProcess(pid=p.pid, memory_used_bytes=p.usedGpuMemory) for p in processes or []],
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


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


def visible(gpus: Sequence[Gpu], cuda_visible_devices: str | None) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; all of them when it is not set.

    As CUDA reads it: indices or (prefixes of) UUIDs; what follows the first entry that fits none is ignored.
    """
    if cuda_visible_devices is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for entry in (e.strip() for e in cuda_visible_devices.split(",")):
        named = [
            g
            for g in gpus
            if entry and (entry == str(g.index) or (not entry.isdigit() and g.uuid.startswith(entry)))
        ]
        if len(named) != 1:
            break
        chosen += named
    return chosen


def pinning_problem(
    report: GpuReport, *, device: str, expected_uuid: str | None, may_split: bool = False
) -> str | None:
    """Why the worker must not load a model on what it sees; null when it may.

    `device` is `auto`, `cpu` or `cuda`. Unless the engine may split one model over GPUs (`may_split`), two
    are refused: it would fill the first and leave the other one idle, or taken from another worker.
    """
    gpus = report.gpus or []
    if device == "cpu":
        return "EXPECTED_GPU_UUID is set, but DEVICE is cpu; unset one of them" if expected_uuid else None
    if not gpus:
        if device == "cuda" or expected_uuid:
            wanted = f"the GPU {expected_uuid}" if expected_uuid else "a GPU"
            return (
                f"{wanted} is demanded, but none is seen ({report.reason}); check the container's device_ids"
            )
        return None
    seen = ", ".join(f"{g.index} {g.name} {g.uuid}" for g in gpus)
    if len(gpus) > 1 and not may_split:
        return (
            f"{len(gpus)} GPUs are seen ({seen}), but a worker serves on one; pin it with device_ids: ['N'] "
            "or CUDA_VISIBLE_DEVICES=N (a model that needs several is for vLLM)"
        )
    if expected_uuid and gpus[0].uuid != expected_uuid:
        return (
            f"pinned to the GPU {expected_uuid}, but what is seen is {seen}; check the container's device_ids"
        )
    return None


class GpuMonitor:
    """Reads the GPUs every two seconds in its own thread, so that a hanging driver stops no heartbeat."""

    def __init__(
        self,
        reader: GpuReader,
        clock: Callable[[], float] = time.monotonic,
        read_every_s: float = READ_EVERY_S,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._read_every_s = read_every_s
        self._read_at = clock()
        self._report = GpuReport(reason="not read yet")
        self._first = threading.Event()
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin reading."""
        threading.Thread(target=self._loop, name="gpu-monitor", daemon=True).start()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                report = self._reader.read()
            except Exception as error:  # noqa: BLE001  (figures are extras: no fault in them may end them)
                report = GpuReport(reason=f"the GPUs cannot be read: {type(error).__name__}: {error}")
            self._report, self._read_at = report, self._clock()
            self._first.set()
            self._stop.wait(self._read_every_s)
        self._reader.close()

    def wait_first(self, timeout_s: float) -> GpuReport:
        """Block until the first reading is there, or the time is over; then as `latest`."""
        self._first.wait(timeout_s)
        return self.latest()

    def latest(self) -> GpuReport:
        """The newest reading; null with the reason when the driver has not answered for a while."""
        age_s = self._clock() - self._read_at
        if age_s > STALE_AFTER_S:
            return GpuReport(reason=f"NVML has not answered for {age_s:.0f} s")
        return self._report

    def stop(self) -> None:
        """End after the reading that runs; does not wait for it."""
        self._stop.set()
