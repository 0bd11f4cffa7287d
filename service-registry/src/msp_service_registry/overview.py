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
    """What Prometheus should scrape: the services by name and URL, and every listed worker.

    External servers are left out unless the file of workers says where their metrics are.
    """
    groups = [_group(url, {"job": name}) for name, url in services.items()]
    for w in workers:
        path = "/metrics" if w.external is None else w.external.metrics_path
        if path is not None:
            model = w.lease.model
            labels = {"worker": w.id, "model": model.id, "model_type": model.type.value}
            groups.append(_group(w.lease.url, {"job": "worker", **labels}, path))
    return groups


def _group(url: str, labels: dict[str, str], metrics_path: str = "/metrics") -> TargetGroup:
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}{metrics_path}"
    return TargetGroup(
        targets=[parts.netloc], labels={"__scheme__": parts.scheme, "__metrics_path__": path, **labels}
    )
