"""The hub's calls about a snapshot's files and folders."""

import json
from urllib.parse import parse_qs, quote, unquote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from msp_registry.facade.errors import BadCall, EntryNotFound
from msp_registry.facade.trees import FileTree, page_of
from msp_registry.routes.hub.lookup import SnapshotDep
from msp_registry.routes.hub.query import asks, is_on
from msp_registry.routes.hub.route import HubRoute

router = APIRouter(tags=["hub"], route_class=HubRoute)


@router.head("/api/models/{name}/tree/{revision}", include_in_schema=False)
@router.get("/api/models/{name}/tree/{revision}", summary="Hub: a snapshot's files")
@router.head("/api/models/{name}/tree/{revision}/{path}", include_in_schema=False)
@router.get("/api/models/{name}/tree/{revision}/{path}", summary="Hub: the files of one folder")
async def get_tree(snapshot: SnapshotDep, request: Request, path: str = "") -> JSONResponse:
    """`recursive=true` goes below folders, `expand=true` adds commits.

    1000 entries at most; the header `Link` has the address of the next page.
    """
    manifest, query = snapshot.manifest, request.query_params
    folder = unquote(path).strip("/")
    tree = FileTree(manifest)
    paths = tree.below(folder, recursive=asks(query, "recursive"))
    if paths is None:
        raise EntryNotFound(
            f"{manifest.repo_id}@{manifest.commit} has no folder {folder[:200]!r}.", commit=manifest.commit
        )
    page = page_of(paths, query.get("cursor"), query.get("limit"))
    headers = dict(snapshot.headers)
    if page.next_cursor is not None:
        # By commit, whatever was asked for: a ref may move before the next page is read.
        place = f"api/models/{quote(manifest.repo_id)}/tree/{manifest.commit}"
        below = f"/{quote(folder, safe='')}" if folder else ""
        following = urlencode({**query, "cursor": page.next_cursor})
        headers["Link"] = f'<{request.base_url}{place}{below}?{following}>; rel="next"'
    return JSONResponse(tree.entries(page.paths, expand=asks(query, "expand")), headers=headers)


@router.post("/api/models/{name}/paths-info/{revision}", summary="Hub: given files and folders of a snapshot")
async def post_paths_info(snapshot: SnapshotDep, request: Request) -> JSONResponse:
    """A form or JSON with `paths` and `expand`; paths that are not there are left out."""
    paths, expand = _asked(request.headers.get("content-type", ""), await request.body())
    tree = FileTree(snapshot.manifest)
    wanted = dict.fromkeys(path.strip("/") for path in paths)
    return JSONResponse(tree.entries(wanted, expand=expand), headers=snapshot.headers)


def _asked(content_type: str, body: bytes) -> tuple[list[str], bool]:
    """Paths, and whether to expand. Raises BadCall."""
    try:
        if content_type.startswith("application/json"):
            data = json.loads(body)
            paths, expand = data["paths"], str(data.get("expand", ""))
        else:
            form = parse_qs(body.decode(), keep_blank_values=True)
            paths, expand = form["paths"], form.get("expand", [""])[-1]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadCall("Send `paths`, as a form or as JSON.") from None
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise BadCall("`paths` must be texts.")
    return paths, is_on(expand)
