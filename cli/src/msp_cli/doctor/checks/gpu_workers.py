"""The GPUs as the running workers see them."""

from msp_cli.doctor.checks.gpu_host import wants_gpu
from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown, warning
from msp_cli.doctor.site import Unknown
from msp_common.contracts.gpus import WorkerWithoutGpu

RECREATE = (
    "docker compose -f docker-compose.gpu-cluster.yml up -d --force-recreate SERVICE; it comes again with "
    "every `systemctl daemon-reload`: for good, give containers their GPUs by CDI, or set "
    '"exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json'
)
_LOST = ("has lost its gpu", "unknown error", "gpu is lost", "fallen off the bus")


def check_lost(facts: Facts) -> list[Finding]:
    """Workers that had a GPU and have it no more."""
    stats = facts.gpu_stats
    if isinstance(stats, Unknown):
        return [_not_asked(facts, Code.GPU_LOST, stats)]
    lost = [worker for worker in stats.without_gpu if _is_lost(worker)]
    if not lost:
        return [ok(Code.GPU_LOST, "no worker has lost its GPU")]
    bus = "fallen off the bus"
    return [
        problem(
            Code.GPU_LOST,
            f"{worker.worker_id} has lost its GPU: {worker.reason}",
            "look for Xid in the host's dmesg, then reset the host" if bus in worker.reason else RECREATE,
        )
        for worker in lost
    ]


def check_detected(facts: Facts) -> list[Finding]:
    """Workers that compute on the CPU although a GPU is meant for them."""
    stats = facts.gpu_stats
    if isinstance(stats, Unknown):
        return [_not_asked(facts, Code.GPU_NOT_DETECTED, stats)]
    has_gpus = not isinstance(facts.gpus, Unknown)
    without = [worker for worker in stats.without_gpu if not _is_lost(worker)]
    findings = []
    for worker in without:
        if wants_gpu(facts):
            findings.append(
                problem(
                    Code.GPU_NOT_DETECTED,
                    f"{worker.worker_id} sees no GPU: {worker.reason}",
                    "check the GPU in .env (WORKER_RUNTIME=nvidia, WORKER_GPU; in cluster mode device_ids), "
                    "then docker compose up -d --force-recreate",
                )
            )
        elif has_gpus:
            findings.append(
                warning(
                    Code.GPU_NOT_DETECTED,
                    f"{worker.worker_id} computes on the CPU, and this host has a GPU",
                    "WORKER_RUNTIME=nvidia in .env, then docker compose up -d",
                )
            )
    if not isinstance(facts.services, Unknown):
        findings += _wrong_gpu(facts)
    seen = len(stats.gpus or [])
    return findings or [ok(Code.GPU_NOT_DETECTED, f"workers report {seen} GPU(s), as they should")]


def _wrong_gpu(facts: Facts) -> list[Finding]:
    """Workers that see another GPU than the one that they are pinned to."""
    if (
        isinstance(facts.cluster, Unknown)
        or isinstance(facts.gpus, Unknown)
        or isinstance(facts.services, Unknown)
        or not facts.in_cluster_mode
    ):
        return []
    found = []
    for line in facts.services.services:
        name = (line.url or "").partition("://")[2].partition(":")[0]
        service = facts.cluster.services.get(name)
        if service is None or not line.gpu_uuids or len(service.device_ids) != 1:
            continue
        wanted = next((gpu.uuid for gpu in facts.gpus if gpu.is_called(service.device_ids[0])), None)
        if wanted is not None and wanted not in line.gpu_uuids:
            found.append(
                problem(
                    Code.WRONG_DEVICE_IDS,
                    f"{name} is pinned to {wanted} and runs on {', '.join(line.gpu_uuids)}",
                    "the file was changed after the start; "
                    "docker compose -f docker-compose.gpu-cluster.yml up -d",
                )
            )
    return found


def _is_lost(worker: WorkerWithoutGpu) -> bool:
    return any(sign in worker.reason.lower() for sign in _LOST)


def _not_asked(facts: Facts, code: Code, stats: Unknown) -> Finding:
    if not facts.runs:
        return unknown(code, "the platform is not running")
    return unknown(code, f"the gateway does not tell: {stats.why}")
