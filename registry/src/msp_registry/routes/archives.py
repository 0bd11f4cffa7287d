"""One model as a tar: out of the store, and into it."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from msp_common.contracts.models import ModelInfo
from msp_common.errors import Conflict, InvalidRequest, Unavailable
from msp_registry.archives.archives import NotExportable
from msp_registry.catalogue import Found
from msp_registry.failures import BadArchive, FilesMissing, JobFailure, NotEnoughSpace, QuotaExceeded
from msp_registry.jobs.jobs import RepoBusy
from msp_registry.routes.context import (
    AdminOnly,
    ModelId,
    PartsDep,
    busy,
    found_or_error,
    jobs_known,
    revision_or_error,
)
from msp_registry.routes.models import Revision, get_model
from msp_registry.routes.stored_bytes import StoredBytes

STALL_S = 120.0
"""A sender may be silent for so long; then the model is let go for others."""

_UPLOAD = re.compile(r"/models/[^/]+/archive")
_TAR = "application/x-tar"
_TAR_BODY = {"description": "A tar stream", "content": {_TAR: {}}}

router = APIRouter(tags=["models"])
log = logging.getLogger(__name__)


def takes_stream(scope: Scope) -> bool:
    """Whether the request is an upload, which has no other limit than the sizes in its manifest."""
    # Exactly the route's form: a ref may be called `archive` too.
    return scope["method"] == "PUT" and _UPLOAD.fullmatch(scope["path"]) is not None


@router.get(
    "/models/{name}/archive",
    summary="One model as a tar stream",
    response_class=Response,
    responses={200: _TAR_BODY},
)
@router.head("/models/{name}/archive", include_in_schema=False)
async def get_archive(
    request: Request, repo_id: ModelId, parts: PartsDep, revision: Revision = None
) -> Response:
    """An uncompressed tar, the same for the same commit, with its manifest first.

    Its length is announced. Should a file turn out to be damaged, the connection ends before that length.
    """
    found = await found_or_error(parts, repo_id, revision)
    try:
        length, stream = await parts.archives.export(found)
    except NotExportable as error:
        raise Conflict(f"{error}.", code=error.code) from None
    headers = {
        "content-length": str(length),
        "content-disposition": f'attachment; filename="{_file_name(found)}"',
    }
    if request.method == "HEAD":
        await stream.aclose()
        return Response(headers=headers, media_type=_TAR)
    return StoredBytes(parts.metrics, stream, 200, headers, _TAR)


@router.put(
    "/models/{name}/archive",
    status_code=201,
    summary="Take a tar stream into the store",
    dependencies=[AdminOnly],
    openapi_extra={"requestBody": {"required": True, "content": {_TAR: {"schema": {"type": "string"}}}}},
)
async def put_archive(
    request: Request,
    repo_id: ModelId,
    parts: PartsDep,
    revision: Annotated[str, Query(description="The ref to move, or the tar's own commit")] = "main",
    rest_from_store: Annotated[
        bool, Query(description="Files may be left out that another snapshot in the store has")
    ] = False,
) -> ModelInfo:
    """A tar as this registry or another gives it out; every file is compared with the manifest in it.

    With `rest_from_store` files that the manifest lists may be missing in the tar: they are copied from
    snapshots in the store that have them, by their sha256, and hashed on the way.

    The model becomes visible when all of it has arrived and is right, and not at all otherwise.
    """
    revision_or_error(revision)
    jobs_known(parts)
    try:
        async with parts.jobs.exclusive(repo_id):
            manifest = await parts.archives.take(
                repo_id, revision, _body(request), rest_from_store=rest_from_store
            )
    except RepoBusy as error:
        busy(error)
    except ClientDisconnect:
        log.warning("a tar of %s broke off: its sender has left; nothing of it is visible", repo_id)
        raise InvalidRequest("The tar broke off before its end.", param="body") from None
    except JobFailure as error:
        raise _answer(error) from None
    return await get_model(repo_id, parts, manifest.commit if revision == manifest.commit else revision)


def _answer(error: JobFailure) -> Conflict | InvalidRequest | Unavailable:
    if isinstance(error, (QuotaExceeded, NotEnoughSpace, FilesMissing)):
        return Conflict(f"{error}.", code=error.code)
    if error.retryable:
        return Unavailable(f"{error}.", code=error.code)
    return InvalidRequest(f"{error}.", param="body", code=error.code)


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    """The body, asked for piece by piece: while the store is slow, the sender waits."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BadArchive(f"no byte of the tar has come for {STALL_S:.0f} s; send it again") from None
        yield chunk


def _file_name(found: Found) -> str:
    return f"{found.manifest.repo_id.replace('/', '-')}-{found.manifest.commit[:12]}.tar"
