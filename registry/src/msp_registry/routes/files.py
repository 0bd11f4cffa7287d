"""The bytes of a snapshot's files, through the registry itself."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from msp_common.contracts.models import ManifestFile
from msp_common.error_response import error_response
from msp_common.errors import InvalidRequest, ModelNotFound, NotFound
from msp_common.model_ids import InvalidModelId
from msp_registry.catalogue import NoSuchModel
from msp_registry.layout import file_key, is_commit
from msp_registry.names import plain_name
from msp_registry.routes.byte_ranges import Span, Unsatisfiable, requested_span
from msp_registry.routes.context import Parts, PartsDep, model_id
from msp_registry.routes.stored_bytes import StoredBytes, open_stored, refuse_quarantined

router = APIRouter(tags=["files"])


async def _model_of_commit(name: str, commit: str, parts: PartsDep) -> str:
    """The id in the path. The commit tells which model is meant, so that the exact id needs no look-up."""
    try:
        plain = plain_name(name)
        if is_commit(commit):
            await parts.catalogue.manifest(plain, commit)
    except InvalidModelId as error:
        raise InvalidRequest(str(error), param="name", code="invalid_model_id") from None
    except NoSuchModel:
        return await model_id(name, parts)
    return plain


@router.head("/files/{name}/{commit}/{path:path}", summary="Size and hash of one file")
@router.get("/files/{name}/{commit}/{path:path}", summary="The bytes of one file, or a range of them")
async def get_file(
    repo_id: Annotated[str, Depends(_model_of_commit)],
    commit: str,
    path: str,
    request: Request,
    parts: PartsDep,
) -> Response:
    """`ETag` is the file's sha256. `Range` gives 206, or 416 when it begins behind the end.

    409 for a file that is no longer what its manifest says.
    """
    file = await _file(parts, repo_id, commit, path)
    await refuse_quarantined(parts, repo_id, commit, path)
    etag = f'"{file.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "public, max-age=31536000, immutable"}
    if request.method == "HEAD":
        # Ranges are a matter of GET alone (RFC 9110, 14.2).
        headers["Content-Length"] = str(file.size_bytes)
        return Response(headers=headers, media_type="application/octet-stream")
    span = None
    if request.headers.get("if-range", etag) == etag:
        try:
            span = requested_span(request.headers.get("range"), file.size_bytes)
        except Unsatisfiable:
            return _unsatisfiable(file)
    first, length = (span.first, span.length) if span else (0, file.size_bytes)
    headers["Content-Length"] = str(length)
    if span:
        headers["Content-Range"] = span.content_range(file.size_bytes)
    data = await open_stored(parts, file_key(repo_id, commit, path), Span(first, length))
    return StoredBytes(parts.metrics, data, 206 if span else 200, headers)


async def _file(parts: Parts, repo_id: str, commit: str, path: str) -> ManifestFile:
    if not is_commit(commit):
        raise InvalidRequest(f"{commit[:80]!r} is no commit of 40 hex digits.", param="commit")
    try:
        manifest = await parts.catalogue.manifest(repo_id, commit)
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}.", param="name") from None
    file = next((f for f in manifest.files if f.path == path), None)
    if file is None:
        raise NotFound(f"{repo_id}@{commit} has no file {path[:200]!r}.", param="path", code="file_not_found")
    return file


def _unsatisfiable(file: ManifestFile) -> Response:
    error = InvalidRequest(
        f"The range begins behind the end: {file.path} has {file.size_bytes} bytes.",
        param="Range",
        code="range_not_satisfiable",
    )
    response = error_response(error)
    response.status_code = 416
    response.headers["Content-Range"] = f"bytes */{file.size_bytes}"
    return response
