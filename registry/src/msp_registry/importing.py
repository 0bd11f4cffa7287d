"""Taking a local folder into the store, as a snapshot named by its own content."""

from importlib.metadata import version
from pathlib import Path

from anyio import to_thread

from msp_common.contracts.jobs import JobState
from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry import local_folder
from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel
from msp_registry.failures import BadFolder, WrongBytes
from msp_registry.hashing import digest_of
from msp_registry.inspection import inspect
from msp_registry.layout import file_key, local_commit
from msp_registry.local_folder import LocalFile
from msp_registry.progress import Progress
from msp_registry.store import ObjectStore
from msp_registry.storing import already_stored, check_quota, store_verified

SOURCE = "folder"


class Importer:
    """Takes folders into one store."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, *, quota_bytes: int | None = None) -> None:
        self._store = store
        self._catalogue = catalogue
        self._quota_bytes = quota_bytes

    async def take(self, repo_id: str, folder: Path, revision: str, progress: Progress) -> None:
        """Hash, inspect, store, publish. Raises JobFailure and StoreError.

        The folder is read twice, since the commit, which is part of every key, follows from the hashes. A
        folder whose commit is published already only moves the ref.
        """
        await progress.enter(JobState.RESOLVING)
        files = await to_thread.run_sync(local_folder.scan, folder)
        listed = [await _hashed(file) for file in files]
        commit = local_commit(listed)
        total_bytes = sum(file.size_bytes for file in listed)

        await progress.enter(JobState.DOWNLOADING, commit=commit)
        await progress.expect(total_bytes=total_bytes, files=len(files))
        if await self._is_published(repo_id, commit):
            await progress.moved(total_bytes)
            for _ in files:
                await progress.file_done()
            await progress.enter(JobState.PUBLISHING)
            await self._catalogue.point(repo_id, revision, commit)
            return

        by_path = {file.path: file for file in files}

        async def read(path: str, offset: int, length: int) -> bytes:
            return await local_folder.read_range(by_path[path], offset, length)

        findings = await inspect([(f.path, f.size_bytes) for f in files], read)
        if self._quota_bytes is not None:
            stored_bytes = await self._catalogue.stored_bytes()
            check_quota(self._quota_bytes, stored_bytes=stored_bytes, new_bytes=total_bytes)
        for file, entry in zip(files, listed, strict=True):
            await self._store_one(file_key(repo_id, commit, file.path), file, entry, progress)
            await progress.file_done()

        await progress.enter(JobState.PUBLISHING)
        manifest = Manifest(
            repo_id=repo_id,
            commit=commit,
            revision=revision,
            source=SOURCE,
            files=listed,
            total_bytes=total_bytes,
            format=findings.format,
            dtype=findings.dtype,
            parameters=findings.parameters,
            licence=findings.licence,
            requires_remote_code=findings.requires_remote_code,
            tool_version=version("msp-registry"),
        )
        await self._catalogue.publish(manifest, revision)

    async def _is_published(self, repo_id: str, commit: str) -> bool:
        try:
            await self._catalogue.manifest(repo_id, commit)
        except (NoSuchModel, DamagedManifest):
            return False
        return True

    async def _store_one(self, key: str, file: LocalFile, entry: ManifestFile, progress: Progress) -> None:
        known = await already_stored(
            self._store, key, size_bytes=entry.size_bytes, git_sha1=entry.git_sha1, sha256=entry.sha256
        )
        if known is not None:
            await progress.moved(entry.size_bytes)
            return
        try:
            await store_verified(
                self._store,
                key,
                local_folder.read(file),
                size_bytes=entry.size_bytes,
                git_sha1=entry.git_sha1,
                sha256=entry.sha256,
                progress=progress,
            )
        except WrongBytes:
            raise BadFolder(f"{file.place} changed while it was imported; import it again") from None


async def _hashed(file: LocalFile) -> ManifestFile:
    digest = await digest_of(local_folder.read(file), file.size_bytes)
    if digest.size_bytes != file.size_bytes:
        raise BadFolder(f"{file.place} changed while it was read; import it again")
    return ManifestFile(
        path=file.path, size_bytes=digest.size_bytes, sha256=digest.sha256, git_sha1=digest.git_sha1
    )
