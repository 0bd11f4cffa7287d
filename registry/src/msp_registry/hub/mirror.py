"""Bringing one snapshot from a hub into the store: every byte verified, visible only when whole."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from importlib.metadata import version

from msp_common.contracts.jobs import DownloadRequest, JobState
from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel
from msp_registry.facade.blobs import in_lfs
from msp_registry.failures import HubMisbehaved, NotRepairable
from msp_registry.hub.client import Hub, Resolved
from msp_registry.hub.selection import RemoteFile, select
from msp_registry.inspection.inspection import inspect
from msp_registry.jobs.progress import Progress
from msp_registry.layout import UnsafePath, check_paths, is_commit
from msp_registry.stores.store import ObjectStore
from msp_registry.stores.store_reading import reader_of
from msp_registry.transfers.file_source import ReadFile
from msp_registry.transfers.preflight import check_room
from msp_registry.transfers.transfer import Transfer

ATTEMPTS = 2
"""Wrong bytes may be a fault on the way: such a file is fetched once more before the job fails."""


class Mirror:
    """Takes models from one hub into one store."""

    def __init__(
        self,
        hub: Hub,
        transfer: Transfer,
        store: ObjectStore,
        catalogue: Catalogue,
        *,
        clock: Callable[[], float] = time.time,
        quota_bytes: int | None = None,
    ) -> None:
        """`transfer` works on the same store; `clock` tells Unix time."""
        self._hub = hub
        self._transfer = transfer
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._quota_bytes = quota_bytes

    async def bring(self, repo_id: str, request: DownloadRequest, progress: Progress) -> None:
        """Resolve, list, choose, check access and room, store, inspect, publish.

        Raises JobFailure and StoreError. Whatever an earlier try has stored is not fetched again. Everything
        after the first answer is asked of that commit, so a branch that moves meanwhile mixes nothing.
        """
        await progress.enter(JobState.RESOLVING)
        resolved = await self._hub.resolve(repo_id, request.revision)
        wanted = await self._wanted(repo_id, resolved.commit, request)
        published = await self._published(repo_id, resolved.commit)
        missing = [file for file in wanted if file.path not in published]
        if missing:
            await self._preflight(repo_id, resolved.commit, missing)

        await progress.enter(JobState.DOWNLOADING, commit=resolved.commit)
        progress.expect([(file.path, file.size_bytes) for file in wanted])
        for file in wanted:
            if file.path in published:
                progress.file_done(file.path)
        ref = None if is_commit(request.revision) else request.revision
        if not missing:
            await progress.enter(JobState.PUBLISHING)
            if ref is not None:
                await self._catalogue.point(repo_id, ref, resolved.commit)
            return

        stored = await self._transfer.store_all(
            repo_id,
            resolved.commit,
            missing,
            self._reader(repo_id, resolved.commit),
            progress,
            attempts=ATTEMPTS,
        )
        await progress.enter(JobState.VERIFYING)
        manifest = await self._manifest(repo_id, resolved, request, [*published.values(), *stored])
        await progress.enter(JobState.PUBLISHING)
        await self._catalogue.publish(manifest, ref)

    async def repair(self, manifest: Manifest, files: Sequence[ManifestFile], progress: Progress) -> None:
        """Fetch these files of a published snapshot again; each replaces the bad one when it is whole.

        Compared with the manifest's hashes, whatever the hub says today. Raises NotRepairable when the
        snapshot did not come from this hub, other JobFailures, and StoreError.
        """
        if manifest.source.rstrip("/") != self._hub.endpoint.rstrip("/"):
            raise NotRepairable(
                f"{manifest.repo_id}@{manifest.commit} came from {manifest.source!r}, not from "
                f"{self._hub.endpoint}: bring it again from there"
            )
        await self._transfer.store_all(
            manifest.repo_id,
            manifest.commit,
            [
                RemoteFile(f.path, f.size_bytes, f.git_sha1, f.sha256, sha256_suffices=in_lfs(manifest, f))
                for f in files
            ],
            self._reader(manifest.repo_id, manifest.commit),
            progress,
            replace=True,
            attempts=ATTEMPTS,
        )

    async def _wanted(self, repo_id: str, commit: str, request: DownloadRequest) -> list[RemoteFile]:
        wanted = select(
            await self._hub.tree(repo_id, commit),
            allow=request.allow_patterns,
            ignore=request.ignore_patterns,
            allow_pickle=request.allow_pickle,
        )
        try:
            check_paths(file.path for file in wanted)
        except UnsafePath as error:
            raise HubMisbehaved(f"{repo_id} lists a file that cannot be stored: {error}") from None
        return wanted

    async def _published(self, repo_id: str, commit: str) -> dict[str, ManifestFile]:
        """What an earlier request with other patterns may have published; the new manifest keeps it."""
        try:
            manifest = await self._catalogue.manifest(repo_id, commit)
        except (NoSuchModel, DamagedManifest):
            return {}
        return {file.path: file for file in manifest.files}

    async def _preflight(self, repo_id: str, commit: str, missing: list[RemoteFile]) -> None:
        # Of the largest file: the Hub shows README.md and other small ones of gated models to everybody.
        await self._hub.probe(repo_id, commit, max(missing, key=lambda file: file.size_bytes))
        await check_room(
            self._store, self._catalogue, repo_id, commit, missing, quota_bytes=self._quota_bytes
        )

    def _reader(self, repo_id: str, commit: str) -> ReadFile:
        def read(file: RemoteFile, offset: int, length: int) -> AsyncGenerator[bytes, None]:
            return self._hub.read(repo_id, commit, file, offset, length)

        return read

    async def _manifest(
        self, repo_id: str, resolved: Resolved, request: DownloadRequest, files: list[ManifestFile]
    ) -> Manifest:
        """Looks into the stored files. Raises BadSnapshot."""
        files = sorted(files, key=lambda file: file.path)
        findings = await inspect(
            [(file.path, file.size_bytes) for file in files],
            reader_of(self._store, repo_id, resolved.commit),
            {file.path: file.sha256 for file in files},
        )
        return Manifest(
            repo_id=repo_id,
            commit=resolved.commit,
            revision=request.revision,
            source=self._hub.endpoint,
            files=files,
            total_bytes=sum(file.size_bytes for file in files),
            format=findings.format,
            dtype=findings.dtype,
            parameters=findings.parameters,
            licence=findings.licence,
            hub=resolved.record,
            mirrored_at=self._clock(),
            requires_remote_code=findings.requires_remote_code,
            allow_patterns=request.allow_patterns,
            ignore_patterns=request.ignore_patterns,
            tool_version=version("msp-registry"),
        )
