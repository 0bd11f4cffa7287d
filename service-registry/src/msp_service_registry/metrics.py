"""What `/metrics` tells."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from msp_common.contracts.workers import ReportKind, Verdict
from msp_service_registry.clock import Clock
from msp_service_registry.gpu_metrics import GpuCollector
from msp_service_registry.workers import WorkerTable


class _TableCollector(Collector):
    """Figures that are read off the table when somebody asks."""

    def __init__(self, table: WorkerTable) -> None:
        self._table = table

    def collect(self) -> Iterable[Metric]:
        """All gauges."""
        by_verdict = GaugeMetricFamily(
            "msp_service_registry_workers", "Known workers by verdict", labels=["verdict"]
        )
        for verdict, count in self._table.count().items():
            by_verdict.add_metric([verdict.value], count)
        yield by_verdict
        of_worker = GaugeMetricFamily(
            "msp_service_registry_worker_verdict",
            "1 for the verdict that a worker has, 0 for all others",
            labels=["worker", "model", "verdict"],
        )
        for worker in self._table.workers():
            for verdict in Verdict:
                labels = [worker.id, worker.lease.model.id, verdict.value]
                of_worker.add_metric(labels, float(worker.verdict is verdict))
        yield of_worker
        yield GaugeMetricFamily(
            "msp_service_registry_generation",
            "Grows with every change that routing could notice",
            value=self._table.generation,
        )


class Metrics:
    """The service registry's own metrics."""

    def __init__(self, table: WorkerTable, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_TableCollector(table))
        self.registry.register(GpuCollector(table, clock))
        self.heartbeats = Counter(
            "msp_service_registry_heartbeats", "Heartbeats taken in", registry=self.registry
        )
        self.reports = Counter(
            "msp_service_registry_reports", "The gateway's reports by kind", ["kind"], registry=self.registry
        )
        for kind in ReportKind:
            self.reports.labels(kind.value)
