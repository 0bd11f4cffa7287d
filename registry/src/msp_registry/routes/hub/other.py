"""Hub calls that are about no model of ours: who the caller is, and everything that a registry is not."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse

from msp_registry.facade.answers import whoami
from msp_registry.facade.errors import NoSuchCall, NotSignedIn, RepoNotFound
from msp_registry.routes.hub.route import HubRoute

router = APIRouter(tags=["hub"], route_class=HubRoute)

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@router.head("/api/whoami-v2", include_in_schema=False)
@router.get("/api/whoami-v2", summary="Hub: who the caller is")
async def get_whoami(authorization: Annotated[str, Header()] = "") -> JSONResponse:
    """Any token is somebody: `hf auth login` and tools that insist on a token then work. None is 401."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotSignedIn(
            "No token was sent. This registry needs none for reading.", headers={"WWW-Authenticate": "Bearer"}
        )
    return JSONResponse(whoami(), headers={"Cache-Control": "no-store"})


@router.api_route("/api/{rest:path}", methods=_METHODS, include_in_schema=False)
async def no_such_call(rest: str, request: Request) -> JSONResponse:
    """Refused at once: clients ask for telemetry and the like, and wait for the answer."""
    kind, _, name = rest.partition("/")
    if kind in ("datasets", "spaces", "kernels") and name:
        raise RepoNotFound(f"This registry holds models only, no {kind}.")
    raise NoSuchCall(f"This registry does not answer {request.method} /api/{rest[:200]}.")
