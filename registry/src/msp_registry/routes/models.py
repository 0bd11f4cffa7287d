"""Models: listing, describing, bringing in, verifying, deleting."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query

from msp_common.contracts.jobs import DownloadRequest, ImportRequest, Job, JobRequest, VerifyRequest
from msp_common.contracts.models import DeletedModel, FileUrl, Manifest, ModelInfo, ModelList
from msp_common.errors import Conflict, Forbidden, InvalidRequest, ModelNotFound
from msp_registry.catalogue import NoSuchModel
from msp_registry.imports.local_folder import FolderNotAllowed
from msp_registry.jobs.jobs import RepoBusy
from msp_registry.layout import file_key, is_commit
from msp_registry.routes.context import (
    AdminOnly,
    AdminOrWorker,
    ModelId,
    Parts,
    PartsDep,
    busy,
    found_or_error,
    jobs_known,
    revision_or_error,
)
from msp_registry.upkeep.quarantine import fault_in
from msp_registry.usage import UsageUnknown

Revision = Annotated[str | None, Query(description="Branch, tag or commit; default: main")]

USAGE_TIMEOUT_S = 2.0
"""A description does not wait longer to be told who uses the model: workers ask for it when they start."""

# Signing takes 50 µs, and some models have thousands of files: other requests have their turn in between.
_SIGNED_AT_A_TIME = 100

router = APIRouter(tags=["models"])
log = logging.getLogger(__name__)


@router.get("/models", summary="Models in the store")
async def list_models(parts: PartsDep) -> ModelList:
    """Every model with a whole, verified snapshot."""
    return ModelList(models=await parts.catalogue.models())


@router.get("/models/{name}", summary="One model: manifest, where its bytes are, who uses it")
async def get_model(repo_id: ModelId, parts: PartsDep, revision: Revision = None) -> ModelInfo:
    """The id may be given as `org/name`, `org%2Fname` or `org-name`."""
    found = await found_or_error(parts, repo_id, revision)
    commit = found.manifest.commit
    quarantined = dict(await parts.quarantine.of(repo_id, commit))
    return ModelInfo(
        id=repo_id,
        commit=commit,
        revision=found.revision,
        refs=found.refs,
        manifest=found.manifest,
        urls=await _urls(parts, found.manifest, quarantined),
        quarantined=quarantined,
        used_by=await _users(parts, repo_id, commit),
    )


@router.post(
    "/models/{name}/download",
    status_code=202,
    summary="Mirror a model from the hub",
    dependencies=[AdminOrWorker],
)
async def download_model(repo_id: ModelId, parts: PartsDep, body: DownloadRequest | None = None) -> Job:
    """The same request while its job runs is answered with that job. Workers may ask, with CLUSTER_TOKEN."""
    if parts.hub_endpoint is None:
        raise Conflict(
            f"The registry is offline (REGISTRY_MODE=offline) and cannot download {repo_id}. Import a folder "
            f"or a tar with POST /models/{repo_id}/import, or a bundle with ./scripts/offline-import.sh.",
            code="registry_offline",
        )
    request = body or DownloadRequest()
    revision_or_error(request.revision)
    return await _submit(parts, repo_id, request)


@router.post(
    "/models/{name}/import",
    status_code=202,
    summary="Take a folder, a tar or an S3 prefix into the store",
    dependencies=[AdminOnly],
)
async def import_model(repo_id: ModelId, parts: PartsDep, body: ImportRequest) -> Job:
    """A folder or tar must be one that the registry itself can read, below REGISTRY_IMPORT_ROOTS."""
    if is_commit(revision_or_error(body.revision)):
        raise InvalidRequest(
            "An import's commit follows from its content; give a branch or tag.",
            param="revision",
            code="invalid_revision",
        )
    try:
        parts.import_places.check(body.source)
    except FolderNotAllowed as error:
        raise Forbidden(f"{error}.", param="source", code="folder_not_allowed") from None
    return await _submit(parts, repo_id, body)


@router.post(
    "/models/{name}/verify",
    status_code=202,
    summary="Read a model back and compare every byte",
    dependencies=[AdminOnly],
)
async def verify_model(repo_id: ModelId, parts: PartsDep, body: VerifyRequest | None = None) -> Job:
    """Only what is bad is fetched anew, where the registry is online and the model came from its hub."""
    request = body or VerifyRequest()
    await found_or_error(parts, repo_id, request.revision)
    return await _submit(parts, repo_id, request)


@router.delete("/models/{name}", summary="Delete a model, or one revision of it", dependencies=[AdminOnly])
async def delete_model(
    repo_id: ModelId,
    parts: PartsDep,
    revision: Annotated[
        str | None, Query(description="Only the commit that this names, with its refs; default: all")
    ] = None,
    force: Annotated[bool, Query(description="Also while workers use it, or nobody can tell")] = False,
) -> DeletedModel:
    """Refused with 409 while a worker uses it, or a job of the model runs; `broke` says who used it."""
    jobs_known(parts)
    try:
        async with parts.jobs.exclusive(repo_id):
            commit = None if revision is None else await _commit(parts, repo_id, revision)
            users = await _users_or_refusal(parts, repo_id, commit, force=force)
            deleted = await parts.catalogue.delete(repo_id, commit)
            parts.quarantine.forget(repo_id, commit)
    except RepoBusy as error:
        busy(error)
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}.", param="name") from None
    return DeletedModel(
        id=repo_id,
        commits=deleted.commits,
        refs=deleted.refs,
        objects=deleted.objects,
        freed_bytes=deleted.freed_bytes,
        broke=users,
    )


async def _commit(parts: Parts, repo_id: str, revision: str) -> str:
    """A commit is taken at its word: what is left of an unpublished one can be deleted too."""
    if is_commit(revision_or_error(revision)):
        return revision
    return (await found_or_error(parts, repo_id, revision)).manifest.commit


async def _users(parts: Parts, repo_id: str, commit: str) -> list[str] | None:
    try:
        async with asyncio.timeout(USAGE_TIMEOUT_S):
            return await parts.usage.workers_of(repo_id, commit)
    except (UsageUnknown, TimeoutError) as error:
        log.warning("who uses %s is not known: %s", repo_id, str(error) or "no answer in time")
        return None


async def _users_or_refusal(parts: Parts, repo_id: str, commit: str | None, *, force: bool) -> list[str]:
    what = repo_id if commit is None else f"{repo_id}@{commit}"
    try:
        workers = await parts.usage.workers_of(repo_id, commit)
    except UsageUnknown as error:
        if force:
            log.warning("%s is deleted by force, and who uses it is not known: %s", what, error)
            return []
        raise Conflict(
            f"Whether a worker uses {what} is not known: {error}. Use ?force=true to delete it anyway.",
            code="usage_unknown",
        ) from None
    if workers and not force:
        raise Conflict(
            f"{what} is used by {', '.join(workers)}. Stop them first, or use ?force=true: they go on with "
            "what they have loaded, and cannot start again.",
            code="model_in_use",
        )
    return workers


async def _submit(parts: Parts, repo_id: str, request: JobRequest) -> Job:
    try:
        return await parts.jobs.submit(repo_id, request)
    except RepoBusy as error:
        busy(error)


async def _urls(parts: Parts, manifest: Manifest, quarantined: Mapping[str, str]) -> list[FileUrl]:
    urls = []
    for number, file in enumerate(manifest.files, 1):
        is_bad = fault_in(quarantined, file.path) is not None
        urls.append(await _url(parts, manifest, file.path, is_bad))
        if number % _SIGNED_AT_A_TIME == 0:
            await asyncio.sleep(0)
    return urls


async def _url(parts: Parts, manifest: Manifest, path: str, is_bad: bool) -> FileUrl:
    # A signed URL would serve a bad file all the same; our own says what is wrong with it.
    if parts.presign_ttl_s is not None and not is_bad:
        key = file_key(manifest.repo_id, manifest.commit, path)
        url = await parts.store.presigned_url(key, parts.presign_ttl_s)
        if url is not None:
            return FileUrl(path=path, url=url, expires_at=parts.clock() + parts.presign_ttl_s)
    own = f"/files/{quote(manifest.repo_id, safe='')}/{manifest.commit}/{quote(path)}"
    return FileUrl(path=path, url=own)
