"""Refs of a model: which commit `main` or a channel such as `prod` names."""

from urllib.parse import unquote

from fastapi import APIRouter

from msp_common.contracts.models import RefChange, Refs
from msp_common.errors import InvalidRequest, ModelNotFound, NotFound
from msp_registry.catalogue import NoSuchModel, NoSuchRef
from msp_registry.layout import is_commit
from msp_registry.routes.context import (
    AdminOnly,
    ModelId,
    Parts,
    PartsDep,
    found_or_error,
    how_to_bring,
    revision_or_error,
)

router = APIRouter(tags=["refs"])


@router.get("/models/{name}/refs", summary="What each ref of a model names")
async def get_refs(repo_id: ModelId, parts: PartsDep) -> Refs:
    """And the commits that there are to choose from, newest first."""
    return await _refs(parts, repo_id)


@router.put("/models/{name}/refs/{ref:path}", summary="Let a ref name a commit", dependencies=[AdminOnly])
async def move_ref(repo_id: ModelId, ref: str, body: RefChange, parts: PartsDep) -> Refs:
    """New ones are made. Workers that run keep the commit that they have loaded."""
    name = _name(ref)
    if (body.commit is None) == (body.revision is None):
        raise InvalidRequest("Give either `commit` or `revision`.", param="commit")
    if body.commit is not None and not is_commit(body.commit):
        raise InvalidRequest(f"{body.commit[:80]!r} is no commit of 40 hex digits.", param="commit")
    found = await found_or_error(parts, repo_id, body.commit or body.revision)
    try:
        await parts.catalogue.move_ref(repo_id, name, found.manifest.commit)
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}.", param="commit") from None
    return await _refs(parts, repo_id)


@router.delete("/models/{name}/refs/{ref:path}", summary="Forget a ref", dependencies=[AdminOnly])
async def delete_ref(repo_id: ModelId, ref: str, parts: PartsDep) -> Refs:
    """The commit stays and answers to its hash, also when this was the last ref that named it."""
    try:
        await parts.catalogue.delete_ref(repo_id, _name(ref))
    except NoSuchRef as error:
        raise NotFound(f"{error}.", param="ref", code="ref_not_found") from None
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}. {how_to_bring(parts, repo_id)}", param="name") from None
    return await _refs(parts, repo_id)


def _name(ref: str) -> str:
    name = revision_or_error(unquote(ref))
    if is_commit(name):
        raise InvalidRequest(
            f"{name} is a commit; a ref needs another name.", param="ref", code="invalid_revision"
        )
    return name


async def _refs(parts: Parts, repo_id: str) -> Refs:
    try:
        held = await parts.catalogue.published(repo_id)
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}. {how_to_bring(parts, repo_id)}", param="name") from None
    return Refs(id=repo_id, refs=held.refs, commits=held.newest_first())
