"""Health: can the store be used, is there a hub, and is what is stored still right?"""

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from msp_common.contracts.health import Health, Part
from msp_common.http_app import platform_version
from msp_registry.routes.context import Parts, PartsDep
from msp_registry.stores.store import StoreError

router = APIRouter(tags=["health"])

CHECK_TIMEOUT_S = 5.0

_NAMED_SNAPSHOTS = 5


@router.get("/health", summary="Whether the registry can do its job", response_model=Health)
async def get_health(parts: PartsDep) -> JSONResponse:
    """200 while the store can be used, 503 with the same body otherwise. Bad files make it `degraded`."""
    store = await _store(parts)
    quarantine = _quarantine(parts)
    worst = quarantine if store.status == "ok" else store
    health = Health(
        status=worst.status,
        reason=worst.reason if worst.status != "ok" else None,
        service="registry",
        version=platform_version(),
        parts={
            "store": store,
            "mode": Part(
                status="ok",
                reason="offline: models come by import"
                if parts.hub_endpoint is None
                else f"online: mirrors {parts.hub_endpoint}",
            ),
            "jobs": Part(status="ok", reason=f"{parts.jobs.running} running")
            if parts.jobs.restored.is_set()
            else Part(status="degraded", reason="jobs of earlier processes are not read yet"),
            "quarantine": quarantine,
            "scrub": _scrub(parts),
        },
    )
    return JSONResponse(health.model_dump(mode="json"), status_code=health.http_status)


async def _store(parts: Parts) -> Part:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await parts.store.check()
    except TimeoutError:
        return Part(status="down", reason=f"the store did not answer within {CHECK_TIMEOUT_S:.0f} s")
    except StoreError as error:
        return Part(status="down", reason=str(error))
    return Part(status="ok")


def _quarantine(parts: Parts) -> Part:
    bad = parts.quarantine.all()
    if not bad:
        return Part(status="ok", reason="no bad files are known of")
    named = [
        f"{repo_id}@{commit}: {', '.join(files)}"
        for (repo_id, commit), files in list(bad.items())[:_NAMED_SNAPSHOTS]
    ]
    more = f"; and {len(bad) - _NAMED_SNAPSHOTS} more models" if len(bad) > _NAMED_SNAPSHOTS else ""
    return Part(
        status="degraded",
        reason=f"{parts.quarantine.files()} file(s) are damaged and not served: {'; '.join(named)}{more}. "
        "Repair them with POST /models/<name>/verify, or import the same files again",
    )


def _scrub(parts: Parts) -> Part:
    scrubber = parts.scrubber
    if scrubber is None:
        return Part(status="ok", reason="off: REGISTRY_SCRUB_HOURS=off")
    hours = f"in the hours {scrubber.hours.begins:%H:%M}-{scrubber.hours.ends:%H:%M}"
    if scrubber.last_run_at is None:
        ran = "nothing was read back yet"
    else:
        at = datetime.fromtimestamp(scrubber.last_run_at, UTC)
        ran = f"last read a model to its end at {at:%Y-%m-%dT%H:%MZ}"
    begun = f"; at work on {scrubber.at_work_on}" if scrubber.at_work_on else ""
    return Part(status="ok", reason=f"{hours}; {ran}{begun}")
