"""What is known of GPUs: as one worker sees them, and merged over the cluster."""

from msp_common.contracts.base import Contract


class GpuProcess(Contract):
    """One process that holds memory on a GPU."""

    pid: int
    memory_used_bytes: int | None = None


class Gpu(Contract):
    """One GPU as NVML reports it. A figure that the driver does not give is null, never zero."""

    uuid: str
    index: int
    name: str
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilization_percent: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    """Since the driver was loaded."""
    throttled_by: list[str] | None = None
    """What slows it down now: power_cap, thermal, hardware_thermal, hardware_slowdown, power_brake."""
    ecc_errors: int | None = None
    """Uncorrected memory errors since the driver was loaded."""
    xids: list[int] = []
    """Numbers of the driver's Xid errors while the worker has run, the newest last."""
    processes: list[GpuProcess] = []


class GpuReport(Contract):
    """A worker's view of its GPUs. `gpus` is null, with the reason, where none can be read."""

    gpus: list[Gpu] | None = None
    reason: str | None = None


class ClusterGpu(Gpu):
    """One physical GPU of the cluster, merged from all workers that see it."""

    host: str
    worker_ids: list[str] = []
    reported_at: float
    """When the newest of the merged reports arrived."""


class WorkerWithoutGpu(Contract):
    """A worker that reported no GPU, and why."""

    worker_id: str
    host: str
    reason: str


class GpuStats(Contract):
    """Answer of `GET /gpu-stats` of the service registry and the gateway.

    `gpus` is null where no worker reports one; `reason` then says so.
    """

    gpus: list[ClusterGpu] | None = None
    reason: str | None = None
    without_gpu: list[WorkerWithoutGpu] = []
