"""The gateway's own routes: models, overview and health. The relayed paths are not here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastapi import APIRouter, Request, Response

from msp_common.contracts.gpus import GpuStats
from msp_common.contracts.workers import Services
from msp_common.errors import ModelNotFound, Unavailable
from msp_gateway import overview
from msp_gateway.admission import Authenticator
from msp_gateway.catalogue import Catalogue
from msp_gateway.directory import Directory
from msp_gateway.model_list import ModelCard, ModelCards, model_cards
from msp_gateway.overview import GatewayHealth
from msp_gateway.service_registry import ServiceRegistryAway


class ClusterPages(Protocol):
    """Pages of the service registry that are shown here too. Both raise ServiceRegistryAway."""

    async def services(self) -> Services:
        """All programs and workers."""

    async def gpu_stats(self) -> GpuStats:
        """All GPUs."""


@dataclass(frozen=True)
class Views:
    """What the routes work with."""

    catalogue: Callable[[], Catalogue]
    directory: Directory
    cluster: ClusterPages
    health: Callable[[], GatewayHealth]
    started_at: float
    own_url: str | None
    authenticator: Authenticator


def build_router(views: Views) -> APIRouter:
    """All routes over these views."""
    router = APIRouter()

    @router.get("/v1/models", tags=["models"], summary="All known models", response_model_exclude_none=True)
    async def list_models(request: Request) -> ModelCards:
        identity = views.authenticator.authenticate(request.headers.get("authorization", ""))
        cards = model_cards(views.catalogue(), views.started_at)
        return ModelCards(data=[card for card in cards if identity.may_use(card.id)])

    @router.get(
        "/v1/models/{model_id:path}", tags=["models"], summary="One model", response_model_exclude_none=True
    )
    async def get_model(model_id: str, request: Request) -> ModelCard:
        identity = views.authenticator.authenticate(request.headers.get("authorization", ""))
        known = views.catalogue()
        wanted = known.id_for(model_id)
        card = next((c for c in model_cards(known, views.started_at) if c.id == wanted), None)
        if card is None or not identity.may_use(card.id):
            raise ModelNotFound(f"The model {model_id[:200]!r} does not exist.", param="model")
        return card

    @router.get("/services", tags=["overview"], summary="All programs and workers, and how they are")
    async def get_services() -> Services:
        own = overview.own_status(views.health(), views.own_url)
        try:
            told = (await views.cluster.services()).services
        except ServiceRegistryAway as error:
            others = overview.last_known(views.directory.workers(), views.directory.age_s(), str(error))
        else:
            others = [status for status in told if status.kind != "gateway"]
        return Services(services=[own, *others])

    @router.get("/gpu-stats", tags=["overview"], summary="All GPUs that workers report, merged")
    async def get_gpu_stats() -> GpuStats:
        try:
            return await views.cluster.gpu_stats()
        except ServiceRegistryAway:
            raise Unavailable(
                "The service registry, which merges what the workers report of their GPUs, does not answer.",
                retry_after_s=2,
            ) from None

    @router.get("/health", tags=["health"], summary="Whether the gateway can do its job")
    async def get_health(response: Response) -> GatewayHealth:
        health = views.health()
        response.status_code = health.http_status
        return health

    return router
