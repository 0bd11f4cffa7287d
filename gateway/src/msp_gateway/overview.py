"""What the gateway says of itself and of the cluster: `/health` and `/services`. Pure."""

from collections.abc import Sequence
from typing import Literal

from msp_common.contracts.health import Health, Part
from msp_common.contracts.workers import ServiceStatus, Worker
from msp_gateway.directory import Directory


class GatewayHealth(Health):
    """The gateway's health. It can do its job from the first known worker on, in whatever state that is."""

    authentication: Literal["off", "on"]
    """Whether clients need an API key."""
    snapshot_age_s: float | None
    """Seconds since the service registry was last heard; null before the first time."""


def health(
    directory: Directory,
    authentication: Literal["off", "on"],
    broken_tasks: Sequence[str],
    version: str,
    *,
    keys_away: str | None = None,
) -> GatewayHealth:
    """`down` before the first worker is known, `degraded` while none is ready or the view may be old."""
    workers, away = directory.workers(), directory.away()
    ready = sum(w.verdict.routable for w in workers)
    status: Literal["ok", "degraded", "down"] = "ok"
    reason = None
    if broken_tasks:
        status, reason = "down", f"background task broke: {', '.join(broken_tasks)}; restart the gateway"
    elif not workers:
        status, reason = "down", "no worker is known yet"
    elif not ready:
        status, reason = "degraded", "no worker is ready yet"
    elif away:
        status, reason = "degraded", "the service registry is away; routing goes on by its last snapshot"
    elif keys_away:
        status, reason = "degraded", "the API keys cannot be read; those that were read last hold"
    age_s = directory.age_s()
    return GatewayHealth(
        status=status,
        reason=reason,
        service="gateway",
        version=version,
        authentication=authentication,
        snapshot_age_s=None if age_s is None else round(age_s, 3),
        parts={
            "keys": Part(status="degraded" if keys_away else "ok", reason=keys_away or _open(authentication)),
            "service-registry": Part(status="degraded" if away else "ok", reason=away),
            "workers": Part(
                status="ok" if ready else ("degraded" if workers else "down"),
                reason=f"{ready} of {len(workers)} ready",
            ),
        },
    )


def _open(authentication: Literal["off", "on"]) -> str | None:
    return None if authentication == "on" else "no API key is required: whoever comes may use every model"


def own_status(health: Health, url: str | None) -> ServiceStatus:
    """The gateway's line of `/services`."""
    return ServiceStatus(
        name="gateway",
        kind="gateway",
        url=url,
        status=health.status,
        reason=health.reason,
        version=health.version,
    )


def last_known(workers: Sequence[Worker], age_s: float | None, reason: str) -> list[ServiceStatus]:
    """The lines of `/services` while the service registry is away: what it said last, and how long ago."""
    ago = "never heard" if age_s is None else f"last heard {age_s:.0f} s ago"
    away = ServiceStatus(
        name="service-registry", kind="service-registry", status="down", reason=f"{reason} ({ago})"
    )
    return [
        away,
        *(
            ServiceStatus(
                name=w.id,
                kind="worker",
                url=w.lease.url,
                status=w.verdict.value,
                reason=f"as the service registry said, {ago}",
                progress=w.lease.progress,
                model=w.lease.model,
                load=w.lease.load,
                gpu_uuids=None if w.lease.gpu.gpus is None else [gpu.uuid for gpu in w.lease.gpu.gpus],
                version=w.lease.version,
            )
            for w in workers
        ),
    ]
