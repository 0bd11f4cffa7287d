"""Bringing one snapshot from a hub into the store: every byte verified, visible only when whole."""

from importlib.metadata import version

from msp_common.contracts.jobs import DownloadRequest, JobState
from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel
from msp_registry.failures import HubMisbehaved
from msp_registry.hub_client import Hub
from msp_registry.inspection import inspect
from msp_registry.layout import UnsafePath, check_paths, file_key, is_commit
from msp_registry.progress import Progress
from msp_registry.selection import RemoteFile, select
from msp_registry.store import NoSuchObject, ObjectStore
from msp_registry.storing import already_stored, check_quota, reader_of, store_verified


class Mirror:
    """Takes models from one hub into one store."""

    def __init__(
        self, hub: Hub, store: ObjectStore, catalogue: Catalogue, *, quota_bytes: int | None = None
    ) -> None:
        self._hub = hub
        self._store = store
        self._catalogue = catalogue
        self._quota_bytes = quota_bytes

    async def bring(self, repo_id: str, request: DownloadRequest, progress: Progress) -> None:
        """Resolve, list, choose, store, inspect, publish. Raises JobFailure and StoreError.

        What an earlier try has stored is hashed again instead of fetched again.
        """
        await progress.enter(JobState.RESOLVING)
        resolved = await self._hub.resolve(repo_id, request.revision)
        listed = await self._hub.tree(repo_id, resolved.commit)
        wanted = select(
            listed,
            allow=request.allow_patterns,
            ignore=request.ignore_patterns,
            allow_pickle=request.allow_pickle,
        )
        try:
            check_paths(file.path for file in wanted)
        except UnsafePath as error:
            raise HubMisbehaved(f"{repo_id} lists a file that cannot be stored: {error}") from None
        published = await self._published(repo_id, resolved.commit)
        missing = [file for file in wanted if file.path not in published]

        await progress.enter(JobState.DOWNLOADING, commit=resolved.commit)
        await progress.expect(total_bytes=sum(f.size_bytes for f in wanted), files=len(wanted))
        for file in wanted:
            if file.path in published:
                await progress.moved(file.size_bytes)
                await progress.file_done()
        if missing:
            await self._store_all(repo_id, resolved.commit, missing, published, progress)

        ref = None if is_commit(request.revision) else request.revision
        if not missing:
            await progress.enter(JobState.PUBLISHING)
            if ref is not None:
                await self._catalogue.point(repo_id, ref, resolved.commit)
            return

        await progress.enter(JobState.VERIFYING)
        files = sorted(published.values(), key=lambda f: f.path)
        findings = await inspect(
            [(f.path, f.size_bytes) for f in files], reader_of(self._store, repo_id, resolved.commit)
        )
        await progress.enter(JobState.PUBLISHING)
        manifest = Manifest(
            repo_id=repo_id,
            commit=resolved.commit,
            revision=request.revision,
            source=self._hub.endpoint,
            files=files,
            total_bytes=sum(f.size_bytes for f in files),
            format=findings.format,
            dtype=findings.dtype,
            parameters=findings.parameters,
            licence=findings.licence,
            gated=resolved.gated,
            requires_remote_code=findings.requires_remote_code,
            allow_patterns=request.allow_patterns,
            ignore_patterns=request.ignore_patterns,
            tool_version=version("msp-registry"),
        )
        await self._catalogue.publish(manifest, ref)

    async def _published(self, repo_id: str, commit: str) -> dict[str, ManifestFile]:
        """What an earlier request with other patterns may have published; the new manifest keeps it."""
        try:
            manifest = await self._catalogue.manifest(repo_id, commit)
        except (NoSuchModel, DamagedManifest):
            return {}
        return {file.path: file for file in manifest.files}

    async def _store_all(
        self,
        repo_id: str,
        commit: str,
        missing: list[RemoteFile],
        stored: dict[str, ManifestFile],
        progress: Progress,
    ) -> None:
        """Adds to `stored` what it brings."""
        if self._quota_bytes is not None:
            left = [await self._missing_bytes(repo_id, commit, file) for file in missing]
            check_quota(
                self._quota_bytes, stored_bytes=await self._catalogue.stored_bytes(), new_bytes=sum(left)
            )
        for file in missing:
            stored[file.path] = await self._store_one(repo_id, commit, file, progress)
            await progress.file_done()

    async def _missing_bytes(self, repo_id: str, commit: str, file: RemoteFile) -> int:
        try:
            found = await self._store.stat(file_key(repo_id, commit, file.path))
        except NoSuchObject:
            return file.size_bytes
        return max(0, file.size_bytes - found.size_bytes)

    async def _store_one(
        self, repo_id: str, commit: str, file: RemoteFile, progress: Progress
    ) -> ManifestFile:
        key = file_key(repo_id, commit, file.path)
        digest = await already_stored(
            self._store, key, size_bytes=file.size_bytes, git_sha1=file.git_sha1, sha256=file.sha256
        )
        if digest is not None:
            await progress.moved(file.size_bytes)
        else:
            digest = await store_verified(
                self._store,
                key,
                self._hub.read(repo_id, commit, file),
                size_bytes=file.size_bytes,
                git_sha1=file.git_sha1,
                sha256=file.sha256,
                progress=progress,
            )
        return ManifestFile(
            path=file.path,
            size_bytes=digest.size_bytes,
            sha256=digest.sha256,
            git_sha1=digest.git_sha1,
            lfs=file.lfs,
        )
