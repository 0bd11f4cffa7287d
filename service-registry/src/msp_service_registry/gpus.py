"""The cluster's GPUs, merged from what the workers report of them."""

from collections.abc import Iterable

from msp_common.contracts.gpus import ClusterGpu, Gpu, GpuStats, WorkerWithoutGpu
from msp_common.contracts.workers import LEASE_S, Worker


def merge(workers: Iterable[Worker], now: float) -> GpuStats:
    """One entry per physical GPU (host and UUID), with the figures of the newest report that has it.

    Reports of workers whose lease ran out are left out: their figures are of the past. `now` is in seconds
    since the epoch, as `Worker.heartbeat_at` is.
    """
    seen: dict[tuple[str, str], list[tuple[Worker, Gpu]]] = {}
    without: list[WorkerWithoutGpu] = []
    for worker in workers:
        gpus, why = _current_report(worker, now)
        for gpu in gpus:
            seen.setdefault((worker.lease.host, gpu.uuid), []).append((worker, gpu))
        if not gpus:
            without.append(WorkerWithoutGpu(worker_id=worker.id, host=worker.lease.host, reason=why))
    if not seen:
        reason = "no worker reports a GPU" if without else "no worker is registered"
        return GpuStats(gpus=None, reason=reason, without_gpu=without)
    merged = [_newest(host, reports) for (host, _), reports in seen.items()]
    return GpuStats(gpus=sorted(merged, key=lambda g: (g.host, g.index, g.uuid)), without_gpu=without)


def _current_report(worker: Worker, now: float) -> tuple[list[Gpu], str]:
    if now - worker.heartbeat_at > LEASE_S:
        return [], f"its last report is older than {LEASE_S:g} s"
    report = worker.lease.gpu
    if report.gpus is None:
        return [], report.reason or "it reports no GPU, and no reason"
    return report.gpus, report.reason or "it sees no GPU"


def _newest(host: str, reports: list[tuple[Worker, Gpu]]) -> ClusterGpu:
    worker, gpu = max(reports, key=lambda r: r[0].heartbeat_at)
    return ClusterGpu(
        **gpu.model_dump(),
        host=host,
        worker_ids=sorted(w.id for w, _ in reports),
        reported_at=worker.heartbeat_at,
    )
