"""What handlers need: the application's parts, the model id of the path, and leave to change things."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NoReturn

from fastapi import Depends, Header, Request

from msp_common.bearer import shows_token
from msp_common.errors import Conflict, InvalidRequest, ModelNotFound, Unauthenticated, Unavailable
from msp_common.model_ids import InvalidModelId
from msp_registry.archives.archives import Archives
from msp_registry.catalogue import Catalogue, Found, NoSuchModel
from msp_registry.imports.places import ImportPlaces
from msp_registry.jobs.jobs import Jobs, RepoBusy
from msp_registry.layout import BadRevision, check_revision
from msp_registry.metrics import Metrics
from msp_registry.names import AmbiguousModel, meant, plain_name
from msp_registry.stores.store import ObjectStore
from msp_registry.upkeep.collecting import Collector
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.upkeep.scrubbing import Scrubber
from msp_registry.usage import Usage


@dataclass(frozen=True)
class Parts:
    """The application's parts."""

    store: ObjectStore
    """As it is: a request does not wait for a store that is away."""
    catalogue: Catalogue
    jobs: Jobs
    archives: Archives
    collector: Collector
    quarantine: Quarantine
    scrubber: Scrubber | None
    """None with REGISTRY_SCRUB_HOURS=off."""
    usage: Usage
    metrics: Metrics
    clock: Callable[[], float]
    """Unix time, in seconds."""
    hub_endpoint: str | None
    """None when the registry is offline."""
    import_places: ImportPlaces
    presign_ttl_s: int | None
    """None: bytes come through the registry."""
    admin_token: str | None
    cluster_token: str | None


def parts_of(request: Request) -> Parts:
    """The parts of the application that serves the request."""
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(parts_of)]


async def model_id(name: str, parts: PartsDep) -> str:
    """The id that the path means: `org/name`, `org%2Fname`, or `org-name` of a model that is known.

    Only a name without a slash costs a look into the store. Raises InvalidRequest and Conflict.
    """
    try:
        plain = plain_name(name)
        return plain if "/" in plain else meant(plain, await parts.catalogue.ids())
    except InvalidModelId as error:
        raise InvalidRequest(str(error), param="name", code="invalid_model_id") from None
    except AmbiguousModel as error:
        raise Conflict(
            f"{error}. Write the one you mean with its slash.", param="name", code="ambiguous_model"
        ) from None


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
    action = "import" if parts.hub_endpoint is None else "download"
    return f"Bring it with POST /models/{repo_id}/{action}."


def busy(error: RepoBusy) -> NoReturn:
    """Raises Conflict: something else is being done to the model."""
    raise Conflict(f"{error}.", code="model_busy") from None


def jobs_known(parts: Parts) -> None:
    """Raises Unavailable until the jobs of earlier processes are read: one may be at work on the model."""
    if not parts.jobs.restored.is_set():
        raise Unavailable(
            "The registry has just started and is still reading its jobs from the store.", retry_after_s=2
        )


async def admin_only(parts: PartsDep, authorization: Annotated[str, Header()] = "") -> None:
    """Raises Unauthenticated unless the admin token is given, or none is set."""
    if parts.admin_token is None:
        return
    if not shows_token(authorization, parts.admin_token):
        raise Unauthenticated(
            "This route changes the registry and needs `Authorization: Bearer` with REGISTRY_ADMIN_TOKEN."
        )


async def admin_or_worker(parts: PartsDep, authorization: Annotated[str, Header()] = "") -> None:
    """As `admin_only`, and the cluster's token will do too. Raises Unauthenticated."""
    if parts.cluster_token is None or not shows_token(authorization, parts.cluster_token):
        await admin_only(parts, authorization)


AdminOnly = Depends(admin_only)
AdminOrWorker = Depends(admin_or_worker)
