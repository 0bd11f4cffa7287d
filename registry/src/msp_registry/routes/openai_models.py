"""The models in the store, in the form of OpenAI's `GET /v1/models`."""

from typing import Literal

from fastapi import APIRouter

from msp_common.contracts.base import Contract
from msp_common.errors import ModelNotFound
from msp_registry.holdings import Holdings
from msp_registry.routes.context import ModelId, PartsDep, how_to_bring

router = APIRouter(tags=["openai"])


class StoredModel(Contract):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When its default commit was published, in seconds since the epoch."""
    owned_by: str
    """The organisation in its id; `local` where there is none."""


class StoredModels(Contract):
    """Answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[StoredModel]


@router.get("/v1/models", summary="Models in the store, as OpenAI lists models")
async def list_openai_models(parts: PartsDep) -> StoredModels:
    """Those at rest here; which are being served is told by the gateway."""
    published = (await parts.catalogue.listing()).published
    return StoredModels(data=[_stored(repo_id, held) for repo_id, held in published.items()])


@router.get("/v1/models/{name:path}", summary="One model, as OpenAI describes it")
async def get_openai_model(repo_id: ModelId, parts: PartsDep) -> StoredModel:
    """The id may be given as `org/name`, `org%2Fname` or `org-name`."""
    held = (await parts.catalogue.listing(repo_id)).published.get(repo_id)
    if held is None:
        raise ModelNotFound(
            f"the registry holds no model {repo_id!r}. {how_to_bring(parts, repo_id)}", param="name"
        )
    return _stored(repo_id, held)


def _stored(repo_id: str, held: Holdings) -> StoredModel:
    revision = held.default_revision()
    commit = held.commit_of(revision) if revision else None
    owner, slash, _ = repo_id.partition("/")
    return StoredModel(
        id=repo_id,
        created=int(held.commits[commit]) if commit else 0,
        owned_by=owner if slash else "local",
    )
