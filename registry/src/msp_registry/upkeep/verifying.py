"""Reading a snapshot back out of the store, and comparing every byte with its manifest."""

import functools
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from anyio import to_thread

from msp_common.contracts.jobs import BadFile, JobState, VerifyRequest
from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel
from msp_registry.failures import Corrupt, NoSuchRevision
from msp_registry.jobs.progress import Progress
from msp_registry.layout import file_key
from msp_registry.metrics import Metrics
from msp_registry.stores.store import NoSuchObject, ObjectStore, StoreUnavailable
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.upkeep.throttle import Throttle

# hashlib lets go of the interpreter from 2 KiB on; below this a thread costs more than it frees.
_IN_THREAD_FROM_BYTES = 1 << 16

_ATTEMPTS = 2
"""How often a file is read that the store fails on, although it answers."""

_NAMED_FILES = 5
"""How many bad files an error's message names; the job's `bad_files` has all."""

log = logging.getLogger(__name__)


class Repairer(Protocol):
    """Who can bring single files of a snapshot anew."""

    async def repair(self, manifest: Manifest, files: Sequence[ManifestFile], progress: Progress) -> None:
        """Replace these files by what the manifest says they are. Raises JobFailure and StoreError."""


async def fault_of(
    store: ObjectStore,
    manifest: Manifest,
    file: ManifestFile,
    *,
    moved: Callable[[int], None],
    throttle: Throttle | None = None,
) -> str | None:
    """What is wrong with a stored file; None when every byte is right.

    `moved` is told of bytes as they are read, and has them taken back by a negative number when they turn
    out to be bad. A file that a store cannot read which otherwise answers is bad, be it a broken sector.
    Raises StoreError when the store does not answer: `store` should be a patient one.
    """
    for attempt in range(_ATTEMPTS):
        reading = _Reading(file, moved)
        try:
            await reading.read(store, file_key(manifest.repo_id, manifest.commit, file.path), throttle)
            fault = reading.fault()
        except NoSuchObject:
            fault = "missing in the store"
        except StoreUnavailable as error:
            reading.take_back()
            await store.check()
            if attempt + 1 < _ATTEMPTS:
                continue
            fault = f"cannot be read: {error}"
        if fault is not None:
            reading.take_back()
        return fault
    raise AssertionError("the last attempt returns")


class _Reading:
    """One file on its way out of the store."""

    def __init__(self, file: ManifestFile, moved: Callable[[int], None]) -> None:
        self._file = file
        self._moved = moved
        self._sha256 = hashlib.sha256()
        self._seen_bytes = 0
        self._moved_bytes = 0

    async def read(self, store: ObjectStore, key: str, throttle: Throttle | None) -> None:
        """All of it, or as much as there may be of it."""
        data = store.get(key)
        try:
            async for chunk in data:
                self._seen_bytes += len(chunk)
                if self._seen_bytes > self._file.size_bytes:
                    return
                if len(chunk) < _IN_THREAD_FROM_BYTES:
                    self._sha256.update(chunk)
                else:
                    await to_thread.run_sync(self._sha256.update, chunk)
                self._moved_bytes += len(chunk)
                self._moved(len(chunk))
                if throttle is not None:
                    await throttle.passed(len(chunk))
        finally:
            await data.aclose()

    def fault(self) -> str | None:
        """What is wrong with what was read."""
        if self._seen_bytes > self._file.size_bytes:
            return f"longer than the {self._file.size_bytes} bytes of its manifest"
        if self._seen_bytes < self._file.size_bytes:
            return f"{self._seen_bytes} bytes, its manifest says {self._file.size_bytes}"
        if self._sha256.hexdigest() != self._file.sha256:
            return f"its sha256 is {self._sha256.hexdigest()}, its manifest says {self._file.sha256}"
        return None

    def take_back(self) -> None:
        """These bytes are still to do."""
        if self._moved_bytes:
            self._moved(-self._moved_bytes)
        self._moved_bytes = 0


class Verifier:
    """Checks snapshots, keeps their quarantine up to date, and has bad files repaired where it can."""

    def __init__(
        self,
        store: ObjectStore,
        catalogue: Catalogue,
        quarantine: Quarantine,
        metrics: Metrics,
        *,
        repairer: Repairer | None = None,
        source: str | None = None,
    ) -> None:
        """`source` is the hub that the repairer fetches from: only what came from there is repaired."""
        self._store = store
        self._catalogue = catalogue
        self._quarantine = quarantine
        self._metrics = metrics
        self._repairer = repairer
        self._source = source

    async def verify(self, repo_id: str, request: VerifyRequest, progress: Progress) -> None:
        """Read everything back; repair only what is bad. Raises JobFailure and StoreError.

        When all is right in the end an older quarantine is lifted. Raises Corrupt when it is not.
        """
        manifest = await self._manifest(repo_id, request.revision)
        await progress.enter(JobState.VERIFYING, commit=manifest.commit)
        progress.expect([(file.path, file.size_bytes) for file in manifest.files])
        bad: dict[str, str] = {}
        for file in manifest.files:
            fault = await fault_of(
                self._store, manifest, file, moved=functools.partial(progress.moved, file.path)
            )
            if fault is not None:
                bad[file.path] = fault
                known = await self._quarantine.of(repo_id, manifest.commit)
                await self._quarantine.put(repo_id, manifest.commit, {**known, **bad})
                progress.found_bad(BadFile(path=file.path, reason=fault))
                self._metrics.bad_files.inc()
                log.error("%s@%s: %s is bad: %s", repo_id, manifest.commit, file.path, fault)
            else:
                progress.file_done(file.path)
        await self._quarantine.put(repo_id, manifest.commit, bad)
        if not bad:
            return
        if not request.repair or not self.can_repair(manifest):
            raise Corrupt(self._remedy(manifest, bad))
        await self.repair(manifest, bad, progress)

    def can_repair(self, manifest: Manifest) -> bool:
        """Whether there is a source for this snapshot."""
        return (
            self._repairer is not None
            and self._source is not None
            and manifest.source.rstrip("/") == self._source.rstrip("/")
        )

    async def repair(self, manifest: Manifest, bad: Mapping[str, str], progress: Progress) -> None:
        """Bring these files anew and lift the quarantine. Raises JobFailure and StoreError."""
        if self._repairer is None:
            raise Corrupt(self._remedy(manifest, bad))
        await self._repairer.repair(manifest, [f for f in manifest.files if f.path in bad], progress)
        await self._quarantine.lift(manifest.repo_id, manifest.commit)
        for path, reason in bad.items():
            progress.found_bad(BadFile(path=path, reason=reason, repaired=True))
        log.info("%s@%s: repaired %s", manifest.repo_id, manifest.commit, ", ".join(bad))

    async def _manifest(self, repo_id: str, revision: str | None) -> Manifest:
        try:
            found = await self._catalogue.find(repo_id, revision)
            return await self._catalogue.manifest(repo_id, found.manifest.commit, fresh=True)
        except NoSuchModel as error:
            raise NoSuchRevision(f"{error}; there is nothing to verify") from None
        except DamagedManifest as error:
            raise Corrupt(
                f"{error}; delete it with DELETE /models/{repo_id}?revision=<commit> and bring it again"
            ) from None

    def _remedy(self, manifest: Manifest, bad: Mapping[str, str]) -> str:
        name = f"{manifest.repo_id}@{manifest.commit}"
        listed = "; ".join(f"{path} ({reason})" for path, reason in list(bad.items())[:_NAMED_FILES])
        more = f"; and {len(bad) - _NAMED_FILES} more" if len(bad) > _NAMED_FILES else ""
        if self.can_repair(manifest):
            remedy = "verify it with `repair` to fetch only these files anew, or delete it"
        elif manifest.source.startswith(("http://", "https://")):
            remedy = (
                f"verify it again in a registry that is online with HF_ENDPOINT={manifest.source}, import it "
                "from a registry that holds it, which replaces only what is bad, or delete it"
            )
        else:
            remedy = (
                f"import the same files again with POST /models/{manifest.repo_id}/import, which replaces "
                "only what is bad, or delete it"
            )
        remedy += f" (DELETE /models/{manifest.repo_id}?revision={manifest.commit})"
        return f"{name} has {len(bad)} bad file(s), which are not served now: {listed}{more}; {remedy}"
