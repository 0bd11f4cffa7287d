"""What all ways of importing share: a snapshot whose hashes are known is stored, looked into, published."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel
from msp_registry.facade.blobs import in_lfs
from msp_registry.failures import FilesMissing, WrongBytes
from msp_registry.hub.selection import RemoteFile
from msp_registry.imports.exported_manifest import BadManifest
from msp_registry.imports.held_files import held_files, reader_of_keys
from msp_registry.inspection.inspection import Findings, ReadRange, inspect
from msp_registry.jobs.progress import Progress
from msp_registry.layout import is_commit
from msp_registry.stores.store import ObjectStore
from msp_registry.stores.store_reading import reader_of
from msp_registry.transfers.preflight import check_room
from msp_registry.transfers.transfer import ReadFile, Transfer

log = logging.getLogger(__name__)


class BadFiles(Protocol):
    """The quarantine, as far as an import needs it."""

    async def of(self, repo_id: str, commit: str) -> Mapping[str, str]:
        """Path of each bad file of a snapshot, and what is wrong with it."""

    async def put(self, repo_id: str, commit: str, bad: Mapping[str, str]) -> None:
        """These files are bad and all others are not."""


@dataclass(frozen=True)
class Plan:
    """What is to be done to have a snapshot in the store."""

    manifest: Manifest
    """What comes in."""
    known: Manifest | None
    """What is published of the same commit already."""
    bad: Mapping[str, str]
    """Published files that are quarantined."""

    @cached_property
    def known_paths(self) -> frozenset[str]:
        """Files that are published."""
        return frozenset(file.path for file in self.known.files) if self.known else frozenset()

    @cached_property
    def missing(self) -> list[ManifestFile]:
        """Files that are not published."""
        return [file for file in self.manifest.files if file.path not in self.known_paths]

    @cached_property
    def to_repair(self) -> list[ManifestFile]:
        """Files that are published, but have other bytes by now."""
        return [f for f in self.manifest.files if f.path in self.bad and f.path in self.known_paths]

    def wants(self, path: str) -> bool:
        """Whether the file is missing or to be repaired."""
        return path in self.bad or path not in self.known_paths


class Intake:
    """Takes snapshots into one store."""

    def __init__(
        self,
        store: ObjectStore,
        catalogue: Catalogue,
        transfer: Transfer,
        quarantine: BadFiles,
        *,
        quota_bytes: int | None = None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._transfer = transfer
        self._quarantine = quarantine
        self._quota_bytes = quota_bytes

    async def plan(self, manifest: Manifest, revision: str) -> Plan:
        """Compare with what is published of the commit; a commit is published once, and never changed.

        Raises BadManifest, QuotaExceeded, NotEnoughSpace and StoreError.
        """
        repo_id, commit = manifest.repo_id, manifest.commit
        if is_commit(revision) and revision != commit:
            raise BadManifest(f"revision {revision} was asked for, but what comes is commit {commit}")
        try:
            known = await self._catalogue.manifest(repo_id, commit)
        except (NoSuchModel, DamagedManifest):
            known = None
        hashes = {file.path: file.sha256 for file in known.files} if known else {}
        for file in manifest.files:
            if hashes.get(file.path, file.sha256) != file.sha256:
                raise BadManifest(
                    f"commit {commit} of {repo_id} is in the store with another {file.path!r} than the one "
                    "that comes; one of both is not that commit"
                )
        plan = Plan(manifest, known, await self._quarantine.of(repo_id, commit) if known else {})
        if plan.missing:
            remote = [remote_file(manifest, file) for file in plan.missing]
            await check_room(
                self._store, self._catalogue, repo_id, commit, remote, quota_bytes=self._quota_bytes
            )
        return plan

    async def store(self, plan: Plan, read: ReadFile, progress: Progress) -> None:
        """Bring what is missing or bad, several files at once. Raises as `Transfer.store_all`."""
        repo_id, commit = plan.manifest.repo_id, plan.manifest.commit
        for file in plan.manifest.files:
            if not plan.wants(file.path):
                progress.file_done(file.path)
        for files, replace in ((plan.missing, False), (plan.to_repair, True)):
            remote = [remote_file(plan.manifest, file) for file in files]
            await self._transfer.store_all(repo_id, commit, remote, read, progress, replace=replace)

    async def store_one(self, plan: Plan, file: ManifestFile, read: ReadFile, progress: Progress) -> None:
        """Bring one file that is missing or bad, out of a stream that is read from front to back."""
        await self._transfer.store_all(
            plan.manifest.repo_id,
            plan.manifest.commit,
            [remote_file(plan.manifest, file)],
            read,
            progress,
            sequential=True,
            replace=file.path in plan.known_paths,
        )

    async def store_held(self, plan: Plan, files: Sequence[ManifestFile], progress: Progress) -> None:
        """Copy files that do not come from other snapshots in the store, every byte hashed on its way.

        Raises FilesMissing for those that the store does not have, or has with other bytes by now; and
        StoreError.
        """
        repo_id, commit = plan.manifest.repo_id, plan.manifest.commit
        wanted = [file for file in files if plan.wants(file.path)]
        if not wanted:
            return
        held = await held_files(self._catalogue, self._quarantine, repo_id, wanted)
        lacking = [file for file in wanted if file.path not in held]
        if lacking:
            raise FilesMissing(_told_missing(repo_id, lacking))
        read = reader_of_keys(self._store, held)
        for replace in (False, True):
            remote = [
                remote_file(plan.manifest, f) for f in wanted if (f.path in plan.known_paths) == replace
            ]
            try:
                await self._transfer.store_all(repo_id, commit, remote, read, progress, replace=replace)
            except WrongBytes as error:
                raise FilesMissing(
                    f"a file that was to be taken from the store is damaged there ({error}); find and repair "
                    f"it with POST /models/NAME/verify, or import an export that holds all files"
                ) from None

    async def describe(self, plan: Plan, read: ReadRange | None = None) -> Manifest:
        """Look into the files: the manifest to publish.

        `read` gives parts of the files that come; without it, they must be stored. Raises BadSnapshot,
        StoreError, and what `read` raises.
        """
        if plan.known is not None and not plan.missing:
            return plan.known
        manifest = _united(plan)
        stored = reader_of(self._store, manifest.repo_id, manifest.commit)
        coming = {file.path for file in plan.manifest.files}

        async def part(path: str, offset: int, length: int) -> bytes:
            reader = read if read is not None and path in coming else stored
            return await reader(path, offset, length)

        sizes = [(file.path, file.size_bytes) for file in manifest.files]
        hashes = {file.path: file.sha256 for file in manifest.files}
        return _described(manifest, await inspect(sizes, part, hashes))

    async def publish(self, plan: Plan, manifest: Manifest, revision: str) -> None:
        """Make visible what `describe` gave, all stored: the manifest, then the ref. Raises StoreError."""
        ref = None if is_commit(revision) else revision
        if manifest is not plan.known:
            await self._catalogue.publish(manifest, ref)
        elif ref is not None:
            await self._catalogue.point(manifest.repo_id, ref, manifest.commit)
        repaired = {file.path for file in plan.to_repair}
        if repaired:
            log.info("%s of %s are right again by an import", sorted(repaired), manifest.repo_id)
            still = {path: why for path, why in plan.bad.items() if path not in repaired}
            await self._quarantine.put(manifest.repo_id, manifest.commit, still)


def remote_file(manifest: Manifest, file: ManifestFile) -> RemoteFile:
    """A file of a manifest, as the transfer wants it."""
    suffices = in_lfs(manifest, file)
    return RemoteFile(file.path, file.size_bytes, file.git_sha1, file.sha256, sha256_suffices=suffices)


def _told_missing(repo_id: str, lacking: Sequence[ManifestFile]) -> str:
    named = ", ".join(f"{file.path!r} (sha256 {file.sha256[:12]}…)" for file in lacking[:3])
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return (
        f"{named}{more} of {repo_id} did not come, and no model in the store has such bytes; "
        "import what has them first"
    )


def _united(plan: Plan) -> Manifest:
    """Both file lists: an earlier mirror may have taken others of the same commit."""
    files = {file.path: file for file in plan.known.files} if plan.known else {}
    files |= {file.path: file for file in plan.manifest.files}
    listed = sorted(files.values(), key=lambda file: file.path)
    total = sum(file.size_bytes for file in listed)
    return plan.manifest.model_copy(update={"files": listed, "total_bytes": total})


def _described(manifest: Manifest, findings: Findings) -> Manifest:
    """What the files say goes before what a manifest says; only the licence's name may come from a hub."""
    told, found = manifest.licence, findings.licence
    named = found if told.id is told.name is told.link is None else told
    return manifest.model_copy(
        update={
            "format": findings.format,
            "dtype": findings.dtype,
            "parameters": findings.parameters,
            "licence": named.model_copy(update={"text_sha256": found.text_sha256}),
            "requires_remote_code": findings.requires_remote_code,
        }
    )
