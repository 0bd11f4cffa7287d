"""The workers as lines of `/services` and as Prometheus's targets."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from pydantic import BaseModel

from msp_common.contracts.workers import ServiceStatus, Verdict, Worker


class TargetGroup(BaseModel):
    """One element of Prometheus's http_sd answer."""

    targets: list[str]
    labels: dict[str, str]


def worker_status(worker: Worker, now: float) -> ServiceStatus:
    """A worker's line. The reason is the verdict's, else the worker's own."""
    lease = worker.lease
    loading = worker.verdict in (Verdict.STARTING, Verdict.FETCHING, Verdict.LOADING)
    return ServiceStatus(
        name=worker.id,
        kind="worker",
        url=lease.url,
        status=worker.verdict.value,
        reason=worker.verdict_reason or lease.reason,
        progress=lease.progress if loading else None,
        model=lease.model,
        load=lease.load,
        gpu_uuids=None if lease.gpu.gpus is None else [gpu.uuid for gpu in lease.gpu.gpus],
        heartbeat_age_s=round(max(0.0, now - worker.heartbeat_at), 3),
        version=lease.version,
    )


def targets(workers: Iterable[Worker], services: Mapping[str, str]) -> list[TargetGroup]:
    """What Prometheus should scrape: the services by name and URL, and every listed worker."""
    groups = [_group(url, {"job": name}) for name, url in services.items()]
    return groups + [
        _group(
            w.lease.url,
            {
                "job": "worker",
                "worker": w.id,
                "model": w.lease.model.id,
                "model_type": w.lease.model.type.value,
            },
        )
        for w in workers
    ]


def _group(url: str, labels: dict[str, str]) -> TargetGroup:
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/metrics"
    return TargetGroup(
        targets=[parts.netloc], labels={"__scheme__": parts.scheme, "__metrics_path__": path, **labels}
    )
