"""What handlers need: the application's parts, the model id of the path, and leave to change things."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Header, Request

from msp_common.bearer import shows_token
from msp_common.errors import InvalidRequest, ModelNotFound, Unauthenticated
from msp_common.model_ids import InvalidModelId
from msp_registry.catalogue import Catalogue, Found, NoSuchModel
from msp_registry.importing import Importer
from msp_registry.jobs import Jobs
from msp_registry.layout import BadRevision, check_revision, repo_id_of
from msp_registry.metrics import Metrics
from msp_registry.mirror import Mirror
from msp_registry.store import ObjectStore
from msp_registry.usage import Usage


@dataclass(frozen=True)
class Parts:
    """The application's parts."""

    store: ObjectStore
    catalogue: Catalogue
    jobs: Jobs
    importer: Importer
    mirror: Mirror | None
    """None when the registry is offline."""
    hub_endpoint: str | None
    usage: Usage
    metrics: Metrics
    clock: Callable[[], float]
    """Unix time, in seconds."""
    import_roots: list[Path]
    presign_ttl_s: int | None
    """None: bytes come through the registry."""
    admin_token: str | None


def parts_of(request: Request) -> Parts:
    """The parts of the application that serves the request."""
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(parts_of)]


def model_id(name: str) -> str:
    """The id in the path. Raises InvalidRequest."""
    try:
        return repo_id_of(name)
    except InvalidModelId as error:
        raise InvalidRequest(str(error), param="name", code="invalid_model_id") from None


ModelId = Annotated[str, Depends(model_id)]


def revision_or_error(revision: str) -> str:
    """The revision itself. Raises InvalidRequest."""
    try:
        return check_revision(revision)
    except BadRevision as error:
        raise InvalidRequest(str(error), param="revision", code="invalid_revision") from None


async def found_or_error(parts: Parts, repo_id: str, revision: str | None) -> Found:
    """The snapshot. Raises ModelNotFound, saying how to bring the model."""
    if revision is not None:
        revision_or_error(revision)
    try:
        return await parts.catalogue.find(repo_id, revision)
    except NoSuchModel as error:
        raise ModelNotFound(f"{error}. {how_to_bring(parts, repo_id)}", param="name") from None


def how_to_bring(parts: Parts, repo_id: str) -> str:
    """The next step for someone who misses a model."""
    action = "import" if parts.mirror is None else "download"
    return f"Bring it with POST /models/{repo_id}/{action}."


async def admin_only(parts: PartsDep, authorization: Annotated[str, Header()] = "") -> None:
    """Raises Unauthenticated unless the admin token is given, or none is set."""
    if parts.admin_token is None:
        return
    if not shows_token(authorization, parts.admin_token):
        raise Unauthenticated(
            "This route changes the registry and needs `Authorization: Bearer` with REGISTRY_ADMIN_TOKEN."
        )


AdminOnly = Depends(admin_only)
