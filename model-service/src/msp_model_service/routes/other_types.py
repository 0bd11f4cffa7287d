"""OpenAI's paths that this worker does not answer: an error that says what it serves instead."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import ServedModel
from msp_common.errors import ApiError, InvalidRequest, NotFound

# Routes that clients of OpenAI's API know and no worker has.
_NO_WORKER_HAS = (
    "/v1/audio/speech",
    "/v1/images/generations",
    "/v1/moderations",
    "/v1/batches",
    "/v1/files",
)


def router(model: ServedModel) -> APIRouter:
    """400 naming `model` on the paths of other types, 404 on those that no worker has."""
    routes = APIRouter(include_in_schema=False)
    serves = f"this worker serves {model.id} of type {model.type} at {', '.join(model.type.paths)}"
    for path in sorted({p for t in ModelType for p in t.paths} - set(model.type.paths)):
        wanted = " or ".join(t for t in ModelType if path in t.paths)
        error = InvalidRequest(
            f"{path} needs a model of type {wanted}, but {serves}.", param="model", code="model_not_found"
        )
        routes.add_api_route(path, _always(error), methods=["POST"])
    for path in _NO_WORKER_HAS:
        routes.add_api_route(
            path, _always(NotFound(f"There is no {path} here: {serves}.")), methods=["GET", "POST"]
        )
    return routes


def _always(error: ApiError) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        raise error

    return refuse
