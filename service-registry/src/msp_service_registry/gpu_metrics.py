"""What `/metrics` tells of the GPUs."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from msp_common.contracts.gpus import ClusterGpu
from msp_service_registry.clock import Clock
from msp_service_registry.gpus import merge
from msp_service_registry.workers import WorkerTable

_THROTTLED = "1 for each cause that slows the GPU down now"
_SERVES = "Always 1: which worker, with which model, is on which GPU, to join other metrics with"

_FIGURES: list[tuple[str, str, Callable[[ClusterGpu], float | None]]] = [
    ("memory_total_bytes", "Memory of the GPU", lambda gpu: gpu.memory_total_bytes),
    ("memory_used_bytes", "Memory that is taken", lambda gpu: gpu.memory_used_bytes),
    ("utilization_percent", "Share of time in which a kernel ran", lambda gpu: gpu.utilization_percent),
    ("temperature_celsius", "Temperature of the chip", lambda gpu: gpu.temperature_c),
    ("power_watts", "Power it takes now", lambda gpu: gpu.power_w),
    ("ecc_errors", "Uncorrected memory errors since the driver was loaded", lambda gpu: gpu.ecc_errors),
    ("xid_errors", "Newest Xid errors that workers saw, eight at most", lambda gpu: len(gpu.xids)),
]


class GpuCollector(Collector):
    """The cluster's GPUs: what workers report, merged, so that two workers on one GPU count it once."""

    def __init__(self, table: WorkerTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """A gauge for each figure; a GPU that does not tell one has no sample of it."""
        workers = {worker.id: worker for worker in self._table.workers()}
        gpus = merge(workers.values(), self._clock.now()).gpus or []
        labels = ["host", "uuid", "gpu", "name"]
        figures = [
            (GaugeMetricFamily(f"msp_gpu_{name}", meaning, labels=labels), read)
            for name, meaning, read in _FIGURES
        ]
        energy = CounterMetricFamily(
            "msp_gpu_energy_joules",
            "Energy that the GPU has taken since its driver was loaded",
            labels=labels,
        )
        throttled = GaugeMetricFamily("msp_gpu_throttled", _THROTTLED, labels=[*labels, "by"])
        serves = GaugeMetricFamily("msp_gpu_worker_info", _SERVES, labels=["host", "uuid", "worker", "model"])
        for gpu in gpus:
            of_gpu = [gpu.host, gpu.uuid, str(gpu.index), gpu.name]
            for metric, read in figures:
                if (value := read(gpu)) is not None:
                    metric.add_metric(of_gpu, value)
            if gpu.energy_j is not None:
                energy.add_metric(of_gpu, gpu.energy_j)
            for cause in gpu.throttled_by or []:
                throttled.add_metric([*of_gpu, cause], 1)
            for worker_id in gpu.worker_ids:
                model = workers[worker_id].lease.model.id
                serves.add_metric([gpu.host, gpu.uuid, worker_id, model], 1)
        yield from (metric for metric, _ in figures)
        yield from (energy, throttled, serves)
