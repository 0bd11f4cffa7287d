"""Taking a folder, a tar or a prefix of another S3 server into the store, as a job."""

from contextlib import aclosing
from importlib.metadata import version

from anyio import to_thread

from msp_common.contracts.jobs import ImportRequest, JobState
from msp_common.contracts.models import Manifest, ManifestFile
from msp_common.snapshots import folder_above_all, local_commit
from msp_registry.failures import WrongBytes
from msp_registry.imports.exported_manifest import BadManifest, exported_manifest
from msp_registry.imports.intake import Intake
from msp_registry.imports.places import ImportPlaces
from msp_registry.imports.source import ImportSource, SourceFile
from msp_registry.jobs.progress import Progress
from msp_registry.transfers.hashing import FileHasher
from msp_registry.transfers.transfer import ReadFile


class Importer:
    """Imports from the places it is given."""

    def __init__(self, places: ImportPlaces, intake: Intake) -> None:
        self._places = places
        self._intake = intake

    async def take(self, repo_id: str, request: ImportRequest, progress: Progress) -> None:
        """List, inspect, store, publish. Raises JobFailure and StoreError.

        An exported snapshot brings its hashes along and is read once. Any other source is read twice, since
        the commit, which is part of every key, follows from the hashes. A commit that is published already
        only moves the ref.
        """
        await progress.enter(JobState.RESOLVING)
        source = await self._places.open(request.source)
        files = await source.scan()
        lost = folder_above_all(file.path for file in files)
        if lost is not None:
            raise source.refusal(
                f"all files of {source.name} are in the folder {lost!r}; import that folder itself "
                f"(a tar of it is packed with `tar -cf model.tar -C {lost} .`)"
            )
        progress.expect([(file.path, file.size_bytes) for file in files])
        try:
            manifest = await self._manifest_of(source, files, repo_id, request.revision, progress)
            plan = await self._intake.plan(manifest, request.revision)
        except BadManifest as error:
            raise source.refusal(f"{source.name}: {error}") from None

        await progress.enter(JobState.DOWNLOADING, commit=manifest.commit)

        async def part(path: str, offset: int, length: int) -> bytes:
            return b"".join([chunk async for chunk in source.read(path, offset, length)])

        try:
            # Before hours of storing what would be refused in the end.
            described = await self._intake.describe(plan, part)
            await self._intake.store(plan, _reader(source), progress)
        except WrongBytes as error:
            raise source.refusal(
                f"{source.name}: a file changed while it was imported, or is not what the manifest in it "
                f"says; copy it again and import it again: {error}"
            ) from None
        await progress.enter(JobState.PUBLISHING)
        await self._intake.publish(plan, described, request.revision)

    async def _manifest_of(
        self,
        source: ImportSource,
        files: list[SourceFile],
        repo_id: str,
        revision: str,
        progress: Progress,
    ) -> Manifest:
        exported = await source.manifest()
        if exported is not None:
            manifest = await to_thread.run_sync(exported_manifest, exported, repo_id)
            _compare(manifest, files)
            return manifest
        hashed = [await _hashed(source, file, progress) for file in files]
        for file in files:
            progress.moved(file.path, -file.size_bytes)  # from here on they count as stored
        return Manifest(
            repo_id=repo_id,
            commit=local_commit(hashed),
            revision=revision,
            source=source.kind,
            files=hashed,
            total_bytes=sum(file.size_bytes for file in hashed),
            format="other",
            tool_version=version("msp-registry"),
        )


def _reader(source: ImportSource) -> ReadFile:
    return lambda file, offset, length: source.read(file.path, offset, length)


def _compare(manifest: Manifest, files: list[SourceFile]) -> None:
    """Whether an export is complete, before its first byte is read. Raises BadManifest."""
    listed = {file.path: file.size_bytes for file in manifest.files}
    there = {file.path: file.size_bytes for file in files}
    for path in sorted(listed.keys() - there.keys()):
        raise BadManifest(f"{path!r}, which the manifest lists, is missing; copy the export again")
    for path in sorted(there.keys() - listed.keys()):
        raise BadManifest(
            f"{path!r} is not listed in the manifest; take it away, or remove the folder .registry to import "
            "the files as they are"
        )
    for path, size in there.items():
        if listed[path] != size:
            raise BadManifest(
                f"{path!r} has {size} bytes, the manifest says {listed[path]}; copy the export again"
            )


async def _hashed(source: ImportSource, file: SourceFile, progress: Progress) -> ManifestFile:
    hasher = FileHasher(file.size_bytes)
    async with aclosing(source.read(file.path, 0, file.size_bytes)) as chunks:
        async for chunk in chunks:
            await hasher.update(chunk)
            progress.moved(file.path, len(chunk))
    digest = hasher.digest()
    return ManifestFile(
        path=file.path, size_bytes=digest.size_bytes, sha256=digest.sha256, git_sha1=digest.git_sha1
    )
