"""`/v1/models`: the one model that this worker serves."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, ServedModel, WorkerState
from msp_common.model_ids import InvalidModelId, parse_model_id
from msp_model_service.conformance.card import Conformance, card_of
from msp_model_service.routes.context import check_model
from msp_model_service.worker import Worker


class Architecture(BaseModel):
    """What goes into the model."""

    input_modalities: list[Literal["text", "image", "audio"]]


class Model(BaseModel):
    """OpenAI's model object, and what chat front ends and operators look for beside it.

    Fields that are not known are left out: some front ends fail on null.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    """When the worker started, in seconds since the epoch."""
    owned_by: str
    type: ModelType
    state: WorkerState
    architecture: Architecture
    aliases: list[str] = []
    context_length: int | None = None
    engine: str | None = None
    """What runs the forward pass."""
    conformance: Conformance | None = None
    """What becomes of requests here; absent until the model is loaded."""


class ModelPage(BaseModel):
    """OpenAI's list of models."""

    object: Literal["list"] = "list"
    data: list[Model]


def model_item(
    model: ServedModel,
    capabilities: Capabilities,
    state: WorkerState,
    started_at: float,
    conformance: Conformance | None,
) -> Model:
    """The model as `/v1/models` shows it."""
    owner, slash, _ = model.id.partition("/")
    return Model(
        id=model.id,
        created=int(started_at),
        owned_by=owner if slash else "local",
        type=model.type,
        state=state,
        architecture=Architecture(input_modalities=capabilities.input_modalities),
        aliases=model.aliases,
        context_length=capabilities.context_length,
        engine=capabilities.engine,
        conformance=conformance,
    )


def router(worker: Worker) -> APIRouter:
    """Both answer while the model is still being loaded."""
    routes = APIRouter(prefix="/v1/models", tags=["models"])

    def item() -> Model:
        can, facts = worker.capabilities, worker.facts_now()
        card = card_of(can, facts, relayed=worker.plan.speaks_wire) if facts is not None else None
        return model_item(worker.model(), can, worker.status.state, worker.started_at, card)

    @routes.get("", response_model_exclude_none=True, summary="The model that this worker serves")
    async def list_models() -> ModelPage:
        return ModelPage(data=[item()])

    @routes.get("/{model_id:path}", response_model_exclude_none=True, summary="The same by its id or alias")
    async def get_model(model_id: str) -> Model:
        try:
            name = parse_model_id(model_id)
        except InvalidModelId:
            name = model_id
        check_model(worker.model(), name)
        return item()

    return routes
