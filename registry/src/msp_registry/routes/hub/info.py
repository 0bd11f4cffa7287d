"""The hub's calls about a model as a whole: info, refs, commits."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from msp_registry.facade.answers import commits_answer, model_info, refs_answer
from msp_registry.routes.context import PartsDep
from msp_registry.routes.hub.lookup import NamedDep, SnapshotDep, found_by, live_refs
from msp_registry.routes.hub.query import asks
from msp_registry.routes.hub.route import HubRoute

router = APIRouter(tags=["hub"], route_class=HubRoute)


@router.head("/api/models/{name}", include_in_schema=False)
@router.get("/api/models/{name}", summary="Hub: a model's main revision")
@router.head("/api/models/{name}/revision/{revision}", include_in_schema=False)
@router.get("/api/models/{name}/revision/{revision}", summary="Hub: one revision of a model")
async def get_info(snapshot: SnapshotDep, request: Request) -> JSONResponse:
    """`blobs=true` adds size and hashes to each file."""
    body = model_info(snapshot.manifest, blobs=asks(request.query_params, "blobs"))
    return JSONResponse(body, headers=snapshot.headers)


@router.head("/api/models/{name}/refs", include_in_schema=False)
@router.get("/api/models/{name}/refs", summary="Hub: a model's branches")
async def get_refs(call: NamedDep, parts: PartsDep, request: Request) -> JSONResponse:
    """`main` is among them even if the model has none: it is answered with the default revision."""
    found = await found_by(parts, call)
    body = refs_answer(
        await live_refs(parts, found),
        found.manifest.commit,
        pull_requests=asks(request.query_params, "include_prs"),
    )
    return JSONResponse(body)


@router.head("/api/models/{name}/commits/{revision}", include_in_schema=False)
@router.get("/api/models/{name}/commits/{revision}", summary="Hub: the commit of a revision")
async def get_commits(snapshot: SnapshotDep) -> JSONResponse:
    """Only the commit itself: its history was not mirrored."""
    return JSONResponse(commits_answer(snapshot.manifest), headers=snapshot.headers)
