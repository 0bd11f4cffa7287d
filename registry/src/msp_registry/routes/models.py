"""Models: listing, describing, bringing in, deleting."""

from typing import Annotated, NoReturn
from urllib.parse import quote

from fastapi import APIRouter, Query

from msp_common.contracts.base import Contract
from msp_common.contracts.jobs import DownloadRequest, ImportRequest, Job
from msp_common.contracts.models import FileUrl, Manifest, ModelInfo, ModelList
from msp_common.errors import Conflict, Forbidden, InvalidRequest, ModelNotFound
from msp_registry.catalogue import NoSuchModel
from msp_registry.jobs import RepoBusy, Work
from msp_registry.layout import file_key, is_commit
from msp_registry.local_folder import FolderNotAllowed, allowed_folder
from msp_registry.progress import Progress
from msp_registry.routes.context import (
    AdminOnly,
    ModelId,
    Parts,
    PartsDep,
    found_or_error,
    revision_or_error,
)
from msp_registry.usage import UsageUnknown

router = APIRouter(tags=["models"])


class DeletedModel(Contract):
    """Answer of `DELETE /models/{name}`."""

    id: str
    objects: int
    freed_bytes: int


@router.get("/models", summary="Models in the store")
async def list_models(parts: PartsDep) -> ModelList:
    """Every model with a whole, verified snapshot."""
    return ModelList(models=await parts.catalogue.models())


@router.get("/models/{name}", summary="One model: manifest and where its bytes are")
async def get_model(
    repo_id: ModelId,
    parts: PartsDep,
    revision: Annotated[str | None, Query(description="Branch, tag or commit; default: main")] = None,
) -> ModelInfo:
    """The id may be given as `org/name` or `org%2Fname`."""
    found = await found_or_error(parts, repo_id, revision)
    return ModelInfo(
        id=repo_id,
        commit=found.manifest.commit,
        revision=found.revision,
        refs=found.refs,
        manifest=found.manifest,
        urls=await _urls(parts, found.manifest),
    )


@router.post(
    "/models/{name}/download",
    status_code=202,
    summary="Mirror a model from the hub",
    dependencies=[AdminOnly],
)
async def download_model(repo_id: ModelId, parts: PartsDep, body: DownloadRequest | None = None) -> Job:
    """The same request while its job runs is answered with that job."""
    mirror = parts.mirror
    if mirror is None:
        raise Conflict(
            f"The registry is offline (REGISTRY_MODE=offline) and cannot download {repo_id}. Import a folder "
            f"with POST /models/{repo_id}/import, or a bundle with ./scripts/offline-import.sh.",
            code="registry_offline",
        )
    request = body or DownloadRequest()
    revision_or_error(request.revision)

    async def work(progress: Progress) -> None:
        await mirror.bring(repo_id, request, progress)

    return await _submit(parts, repo_id, request.revision, ("download", request.model_dump_json()), work)


@router.post(
    "/models/{name}/import", status_code=202, summary="Take a folder into the store", dependencies=[AdminOnly]
)
async def import_model(repo_id: ModelId, parts: PartsDep, body: ImportRequest) -> Job:
    """The folder is one that the registry itself can read, below REGISTRY_IMPORT_ROOTS."""
    if is_commit(revision_or_error(body.revision)):
        raise InvalidRequest(
            "A folder's commit follows from its content; give a branch or tag.",
            param="revision",
            code="invalid_revision",
        )
    try:
        folder = allowed_folder(body.folder, parts.import_roots)
    except FolderNotAllowed as error:
        raise Forbidden(f"{error}.", param="folder", code="folder_not_allowed") from None

    async def work(progress: Progress) -> None:
        await parts.importer.take(repo_id, folder, body.revision, progress)

    return await _submit(parts, repo_id, body.revision, ("import", body.revision, str(folder)), work)


@router.delete("/models/{name}", summary="Delete a model, all its revisions", dependencies=[AdminOnly])
async def delete_model(
    repo_id: ModelId,
    parts: PartsDep,
    force: Annotated[bool, Query(description="Also while workers use it, or nobody can tell")] = False,
) -> DeletedModel:
    """Refused with 409 while a worker uses the model, or a job brings it."""
    if not force:
        await _refuse_when_used(parts, repo_id)
    try:
        async with parts.jobs.exclusive(repo_id):
            deleted = await parts.catalogue.delete(repo_id)
    except RepoBusy as error:
        _busy(error)
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}.", param="name") from None
    return DeletedModel(id=repo_id, objects=deleted.objects, freed_bytes=deleted.freed_bytes)


async def _refuse_when_used(parts: Parts, repo_id: str) -> None:
    try:
        workers = await parts.usage.workers_of(repo_id)
    except UsageUnknown as error:
        raise Conflict(
            f"Whether a worker uses {repo_id} is not known: {error}. Use ?force=true to delete it anyway.",
            code="usage_unknown",
        ) from None
    if workers:
        raise Conflict(
            f"{repo_id} is used by {', '.join(workers)}. Stop them first, or use ?force=true.",
            code="model_in_use",
        )


async def _submit(parts: Parts, repo_id: str, revision: str, request: tuple[str, ...], work: Work) -> Job:
    try:
        return await parts.jobs.submit(repo_id, revision, request, work)
    except RepoBusy as error:
        _busy(error)


def _busy(error: RepoBusy) -> NoReturn:
    raise Conflict(f"{error}.", code="model_busy") from None


async def _urls(parts: Parts, manifest: Manifest) -> list[FileUrl]:
    return [await _url(parts, manifest, file.path) for file in manifest.files]


async def _url(parts: Parts, manifest: Manifest, path: str) -> FileUrl:
    if parts.presign_ttl_s is not None:
        key = file_key(manifest.repo_id, manifest.commit, path)
        url = await parts.store.presigned_url(key, parts.presign_ttl_s)
        if url is not None:
            return FileUrl(path=path, url=url, expires_at=parts.clock() + parts.presign_ttl_s)
    own = f"/files/{quote(manifest.repo_id, safe='')}/{manifest.commit}/{quote(path)}"
    return FileUrl(path=path, url=own)
