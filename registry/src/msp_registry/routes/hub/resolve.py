"""The hub's file downloads: `/{id}/resolve/{revision}/{path}`."""

from urllib.parse import unquote

from fastapi import APIRouter, Request, Response

from msp_common.contracts.models import ManifestFile
from msp_registry.facade.blobs import etag as etag_of
from msp_registry.facade.downloads import head_headers, is_named, same_as, shared_headers
from msp_registry.facade.errors import BadRange, EntryNotFound, FileQuarantined
from msp_registry.layout import file_key
from msp_registry.routes.byte_ranges import Span, Unsatisfiable, requested_span
from msp_registry.routes.context import Parts, PartsDep
from msp_registry.routes.hub.lookup import NamedDep, Snapshot, SnapshotDep
from msp_registry.routes.hub.route import HubRoute
from msp_registry.routes.stored_bytes import StoredBytes, open_stored
from msp_registry.upkeep.quarantine import fault_in

router = APIRouter(tags=["hub"], route_class=HubRoute)


@router.head("/{name}/resolve/{revision}/{path}", summary="Hub: size and hash of one file")
@router.get("/{name}/resolve/{revision}/{path}", summary="Hub: the bytes of one file, or a range of them")
async def resolve(
    call: NamedDep, snapshot: SnapshotDep, path: str, request: Request, parts: PartsDep
) -> Response:
    """`HEAD` describes the file itself and never redirects; `Range`, `If-Range` and `If-None-Match` hold."""
    manifest = snapshot.manifest
    file = _file(snapshot, unquote(path))
    etag = f'"{etag_of(manifest, file)}"'
    pinned = call.revision == manifest.commit
    headers = {**snapshot.headers, **shared_headers(etag, pinned=pinned)}
    asked = request.headers
    if is_named(asked.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        # A quarantined file too: what is said of it is true, and a client that has it already needs no more.
        answer = Response(headers=headers, media_type="application/octet-stream")
        del answer.headers["Content-Length"]  # Starlette's 0, for there is no body
        answer.headers.update(head_headers(file.size_bytes, asked.get("user-agent", "")))
        return answer
    await _refuse_bad(parts, snapshot, file)
    span = _span(file, asked.get("range") if same_as(asked.get("if-range"), etag) else None)
    headers["X-Linked-Size"] = str(file.size_bytes)
    headers["Content-Length"] = str(span.length if span else file.size_bytes)
    if span:
        headers["Content-Range"] = span.content_range(file.size_bytes)
    key = file_key(manifest.repo_id, manifest.commit, file.path)
    data = await open_stored(parts, key, span or Span(0, file.size_bytes))
    return StoredBytes(parts.metrics, data, 206 if span else 200, headers)


def _file(snapshot: Snapshot, path: str) -> ManifestFile:
    manifest = snapshot.manifest
    for file in manifest.files:
        if file.path == path:
            return file
    raise EntryNotFound(
        f"{manifest.repo_id}@{manifest.commit} has no file {path[:200]!r}.", commit=manifest.commit
    )


async def _refuse_bad(parts: Parts, snapshot: Snapshot, file: ManifestFile) -> None:
    """Raises FileQuarantined for bytes that are known to be wrong."""
    repo_id, commit = snapshot.manifest.repo_id, snapshot.manifest.commit
    reason = fault_in(await parts.quarantine.of(repo_id, commit), file.path)
    if reason is not None:
        raise FileQuarantined(
            f"{file.path} of {repo_id}@{commit} is damaged in this registry's store and not served: "
            f"{reason}. An operator repairs it with POST /models/{repo_id}/verify, or by bringing "
            "the model again.",
            commit=commit,
        )


def _span(file: ManifestFile, header: str | None) -> Span | None:
    try:
        return requested_span(header, file.size_bytes)
    except Unsatisfiable:
        raise BadRange(
            f"The range begins behind the end: {file.path} has {file.size_bytes} bytes.",
            headers={"Content-Range": f"bytes */{file.size_bytes}"},
        ) from None
