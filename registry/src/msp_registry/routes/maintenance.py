"""Keeping the store tidy."""

from fastapi import APIRouter

from msp_common.contracts.models import GcReport, GcRequest
from msp_registry.routes.context import AdminOnly, PartsDep, jobs_known

router = APIRouter(tags=["maintenance"])


@router.post("/gc", summary="Remove what nobody can see or uses", dependencies=[AdminOnly])
async def collect_garbage(parts: PartsDep, body: GcRequest | None = None) -> GcReport:
    """Without `"dry_run": false` nothing is removed: the answer says what would be."""
    jobs_known(parts)
    return await parts.collector.collect(body or GcRequest())
