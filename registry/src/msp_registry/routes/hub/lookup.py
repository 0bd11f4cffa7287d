"""Which snapshot a hub call is about."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends

from msp_common.contracts.models import Manifest
from msp_common.model_ids import InvalidModelId
from msp_registry.catalogue import Found, NoSuchModel
from msp_registry.facade.answers import MAIN
from msp_registry.facade.errors import RepoNotFound, RevisionNotFound, header_text
from msp_registry.layout import BadRevision, check_revision, repo_id_of
from msp_registry.routes.context import Parts, PartsDep, how_to_bring


@dataclass(frozen=True)
class Snapshot:
    """A snapshot, and the headers that go with every answer about it."""

    manifest: Manifest
    headers: dict[str, str]


@dataclass(frozen=True)
class Named:
    """What the path of a call names: an exact id, and a revision or None for the default."""

    repo_id: str
    revision: str | None


def named(name: str, revision: str | None = None) -> Named:
    """Raises RepoNotFound and RevisionNotFound for what cannot be one."""
    try:
        repo_id = repo_id_of(name)
    except InvalidModelId as error:
        raise RepoNotFound(f"{error}.") from None
    if revision is None:
        return Named(repo_id, None)
    try:
        return Named(repo_id, check_revision(unquote(revision)))
    except BadRevision as error:
        raise RevisionNotFound(f"{error}.") from None


NamedDep = Annotated[Named, Depends(named)]


async def snapshot_of(parts: PartsDep, call: NamedDep) -> Snapshot:
    """Raises RepoNotFound and RevisionNotFound.

    Clients ask for `main` when nobody named a revision. Where a model has none, its default revision is
    given, with a warning that newer clients show.
    """
    if call.revision is not None:
        try:
            # Clients make some twenty calls for one model: they must not list it each time.
            return _snapshot(await parts.catalogue.named(call.repo_id, call.revision))
        except NoSuchModel:
            pass
    found = await found_by(parts, call)
    if call.revision in (None, MAIN) and found.revision != MAIN:
        return _snapshot(found.manifest, _warning(call.repo_id, found))
    return _snapshot(found.manifest)


async def found_by(parts: Parts, call: Named) -> Found:
    """The snapshot with the model's refs. Raises RepoNotFound and RevisionNotFound."""
    try:
        return await parts.catalogue.find(call.repo_id, call.revision)
    except NoSuchModel as error:
        missing = error
    try:
        default = await parts.catalogue.find(call.repo_id)
    except NoSuchModel as error:
        raise RepoNotFound(f"{error}. {how_to_bring(parts, call.repo_id)}") from None
    if call.revision == MAIN:
        return default
    raise RevisionNotFound(f"{missing}.") from None


SnapshotDep = Annotated[Snapshot, Depends(snapshot_of)]


def _snapshot(manifest: Manifest, more: dict[str, str] | None = None) -> Snapshot:
    return Snapshot(manifest, {"X-Repo-Commit": manifest.commit, **(more or {})})


def _warning(repo_id: str, found: Found) -> dict[str, str]:
    text = f"revision; this registry has no {MAIN!r} of {repo_id}; {found.revision!r} is given instead"
    return {"X-HF-Warning": header_text(text)}


async def live_refs(parts: Parts, found: Found) -> dict[str, str]:
    """The model's refs whose commits are published."""
    live = {}
    for ref, commit in found.refs.items():
        try:
            await parts.catalogue.manifest(found.manifest.repo_id, commit)
        except NoSuchModel:
            continue
        live[ref] = commit
    return live
