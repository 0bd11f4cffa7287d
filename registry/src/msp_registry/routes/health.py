"""Health: can the store be used, and is there a hub?"""

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from msp_common.contracts.health import Health, Part
from msp_common.http_app import platform_version
from msp_registry.routes.context import Parts, PartsDep
from msp_registry.store import StoreError

router = APIRouter(tags=["health"])

CHECK_TIMEOUT_S = 5.0


@router.get("/health", summary="Whether the registry can do its job", response_model=Health)
async def get_health(parts: PartsDep) -> JSONResponse:
    """200 while the store can be used, 503 with the same body otherwise."""
    store = await _store(parts)
    health = Health(
        status=store.status,
        reason=store.reason,
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
