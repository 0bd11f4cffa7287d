"""One model as a tar stream: out with its manifest first, and back in with every byte checked against it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from anyio import to_thread

from msp_common.contracts.jobs import BadFile, JobState
from msp_common.contracts.models import Manifest, ManifestFile
from msp_common.snapshots import MANIFEST_PATH, OWN_FOLDER, canonical_json
from msp_registry.archives.tar_headers import Member
from msp_registry.archives.tar_reading import TarStream
from msp_registry.archives.tar_writing import END, member_header, padding, tar_bytes
from msp_registry.catalogue import Found
from msp_registry.facade.blobs import in_lfs
from msp_registry.failures import BadArchive, WrongBytes
from msp_registry.hub.selection import RemoteFile
from msp_registry.imports.exported_manifest import BadManifest, exported_manifest
from msp_registry.imports.intake import BadFiles, Intake, Plan
from msp_registry.imports.source import check_manifest_size
from msp_registry.layout import file_key
from msp_registry.stores.store import ObjectStore
from msp_registry.transfers.hashing import FileHasher, check_digest


class NotExportable(Exception):
    """A snapshot whose files are not all there and right. `code` is for scripts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Archives:
    """Tar streams out of and into one store."""

    def __init__(self, store: ObjectStore, quarantine: BadFiles, intake: Intake) -> None:
        self._store = store
        self._quarantine = quarantine
        self._intake = intake

    async def export(self, found: Found) -> tuple[int, AsyncGenerator[bytes, None]]:
        """Length and bytes of a tar that is the same for the same snapshot.

        Raises NotExportable and StoreError. The stream raises NotExportable when a file turns out to have
        other bytes than the manifest says; the tar then ends before its announced length.
        """
        manifest = found.manifest
        await self._check_stored(manifest)
        head = canonical_json(manifest.model_dump(mode="json"))
        files = sorted(manifest.files, key=lambda file: file.path)
        length = tar_bytes([(MANIFEST_PATH, len(head)), *((file.path, file.size_bytes) for file in files)])
        return length, self._tar(manifest, head, files)

    async def take(
        self, repo_id: str, revision: str, stream: AsyncIterator[bytes], *, rest_from_store: bool = False
    ) -> Manifest:
        """Import what `export` gave. The manifest comes first, then each of its files once, in any order.

        `rest_from_store`: files may be left out of the tar that some snapshot in the store has.

        The files keep their commit, also when the model gets another name. Nothing becomes visible before
        the tar has ended and all of it was right. Raises JobFailure (BadArchive, BadSnapshot, QuotaExceeded,
        NotEnoughSpace, FilesMissing), StoreError, and what the stream raises.
        """
        tar = TarStream(stream)
        try:
            manifest = await _manifest_of(tar, repo_id)
            plan = await self._intake.plan(manifest, revision)
        except BadManifest as error:
            raise BadArchive(str(error)) from None
        try:
            left_out = await self._take_files(tar, plan)
        except WrongBytes as error:
            raise BadArchive(
                f"the tar's bytes are not those of its manifest; copy it again: {error}"
            ) from None
        if left_out and not rest_from_store:
            first = min(file.path for file in left_out)
            raise BadArchive(f"the tar ends without {first!r}, which its manifest lists")
        await self._intake.store_held(plan, left_out, _Unheard())
        described = await self._intake.describe(plan)
        await self._intake.publish(plan, described, revision)
        return described

    async def _check_stored(self, manifest: Manifest) -> None:
        repo_id, commit = manifest.repo_id, manifest.commit
        bad = await self._quarantine.of(repo_id, commit)
        if bad:
            path, why = next(iter(bad.items()))
            raise NotExportable(
                "file_quarantined",
                f"{path} of {repo_id} is quarantined ({why}); repair it with POST /models/{repo_id}/verify",
            )
        sizes = {stat.key: stat.size_bytes async for stat in self._store.list(f"{repo_id}/{commit}/")}
        for file in manifest.files:
            if sizes.get(file_key(repo_id, commit, file.path)) != file.size_bytes:
                raise NotExportable(
                    "file_missing",
                    f"{file.path} of {repo_id} is not whole in the store; repair it with "
                    f"POST /models/{repo_id}/verify",
                )

    async def _tar(
        self, manifest: Manifest, head: bytes, files: list[ManifestFile]
    ) -> AsyncGenerator[bytes, None]:
        yield member_header(MANIFEST_PATH, len(head)) + head + padding(len(head))
        for file in files:
            yield member_header(file.path, file.size_bytes)
            hasher = _hasher(manifest, file)
            key = file_key(manifest.repo_id, manifest.commit, file.path)
            async with aclosing(self._store.get(key)) as data:
                async for chunk in data:
                    await hasher.update(chunk)
                    yield chunk
            try:
                _check(file, hasher)
            except WrongBytes as error:
                raise NotExportable(
                    "file_damaged",
                    f"{error}; the export is broken off. Repair it with POST "
                    f"/models/{manifest.repo_id}/verify",
                ) from None
            yield padding(file.size_bytes)
        yield END

    async def _take_files(self, tar: TarStream, plan: Plan) -> list[ManifestFile]:
        """Those that did not come."""
        left = {file.path: file for file in plan.manifest.files}
        folders = {path[:n] for path in (*left, MANIFEST_PATH) for n in _slashes(path)}
        while (member := await tar.next_member()) is not None:
            if member.is_folder:
                if member.path and member.path not in folders:
                    raise BadArchive(
                        f"the tar holds a folder {member.path!r} that no file of its manifest is in"
                    )
                folders.discard(member.path)
                continue
            file = left.pop(member.path, None)
            if file is None:
                listed = any(member.path == file.path for file in plan.manifest.files)
                raise BadArchive(f"the tar holds {member.path!r} " + ("twice" if listed else "unlisted"))
            await self._take_one(tar, member, file, plan)
        return list(left.values())

    async def _take_one(self, tar: TarStream, member: Member, file: ManifestFile, plan: Plan) -> None:
        if member.size_bytes != file.size_bytes:
            raise BadArchive(
                f"{file.path!r} has {member.size_bytes} bytes in the tar, its manifest says {file.size_bytes}"
            )
        stored = False

        async def read(_: RemoteFile, offset: int, length: int) -> AsyncGenerator[bytes, None]:
            nonlocal stored
            if (offset, length) != (0, file.size_bytes):
                raise ValueError("a stream can only be read as a whole")
            async for chunk in tar.data():
                yield chunk
            stored = True

        if plan.wants(file.path):
            # Compares the hashes of what it reads.
            await self._intake.store_one(plan, file, read, _Unheard())
        if stored:
            return
        # What is stored already is not asked for, but a tar with other bytes in it is refused all the same.
        hasher = _hasher(plan.manifest, file)
        async for chunk in tar.data():
            await hasher.update(chunk)
        _check(file, hasher)


async def _manifest_of(tar: TarStream, repo_id: str) -> Manifest:
    """Raises BadArchive and BadManifest."""
    member = await tar.next_member()
    while member is not None and member.is_folder and member.path in ("", OWN_FOLDER):
        member = await tar.next_member()
    if member is None or member.path != MANIFEST_PATH:
        first = "nothing" if member is None else repr(member.path)
        raise BadArchive(
            f"the tar begins with {first} instead of {MANIFEST_PATH}, so it is no export of a registry. "
            "Other tars are imported by their path below REGISTRY_IMPORT_ROOTS (POST /models/{name}/import)"
        )
    check_manifest_size(member.size_bytes, BadArchive)
    data = b"".join([chunk async for chunk in tar.data()])
    return await to_thread.run_sync(exported_manifest, data, repo_id)


def _hasher(manifest: Manifest, file: ManifestFile) -> FileHasher:
    # Of large files nobody asks for git's hash: clients know them by their sha256.
    known = file.git_sha1 if in_lfs(manifest, file) else None
    return FileHasher(file.size_bytes, git_sha1=known)


def _check(file: ManifestFile, hasher: FileHasher) -> None:
    check_digest(
        file.path,
        hasher.digest(),
        size_bytes=file.size_bytes,
        git_sha1=file.git_sha1,
        sha256=file.sha256,
    )


def _slashes(path: str) -> list[int]:
    return [n for n, letter in enumerate(path) if letter == "/"]


class _Unheard:
    """A Progress that nobody follows: a stream's progress is its sender's."""

    async def enter(self, state: JobState, *, commit: str | None = None) -> None: ...
    def expect(self, files: object) -> None: ...
    def moved(self, path: str, n_bytes: int) -> None: ...
    def resumed(self, path: str, n_bytes: int) -> None: ...
    def file_done(self, path: str) -> None: ...
    def found_bad(self, bad: BadFile) -> None: ...
