"""The scrub: in quiet hours everything is read back slowly, so that no bad byte stays unnoticed for long."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ValidationError

from msp_common.contracts.jobs import BadFile, JobState
from msp_common.contracts.models import Manifest
from msp_common.snapshots import OWN_FOLDER, canonical_json
from msp_registry.catalogue import Catalogue, DamagedManifest, NoSuchModel
from msp_registry.failures import JobFailure
from msp_registry.jobs.jobs import Jobs, RepoBusy
from msp_registry.layout import SCRUB
from msp_registry.metrics import Metrics
from msp_registry.stores.store import NoSuchObject, ObjectStore, StoreError, read_small
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.upkeep.scrub_schedule import QuietHours, Wait, what_next
from msp_registry.upkeep.throttle import Throttle
from msp_registry.upkeep.verifying import Verifier, fault_of

_MAX_STATE_BYTES = 16 << 20
_SAVE_EVERY_S = 60.0
_AFTER_AN_ERROR_S = 60.0
_A_DAY_S = 86_400.0

log = logging.getLogger(__name__)


class _State(BaseModel):
    """How far the scrub has come, as it stands in the store."""

    verified: dict[str, float] = {}
    """`repo@commit`, and the Unix time at which it was last read to its end."""
    begun: str | None = None
    checked: list[str] = []
    """Paths of the snapshot that was begun which are done."""
    last_run_at: float | None = None


class Scrubber:
    """Reads one due snapshot after the other while the hours are quiet; pauses between two files."""

    def __init__(
        self,
        store: ObjectStore,
        catalogue: Catalogue,
        jobs: Jobs,
        quarantine: Quarantine,
        verifier: Verifier,
        metrics: Metrics,
        *,
        hours: QuietHours,
        every_days: float,
        bytes_per_s: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        local_time: Callable[[float], datetime] = datetime.fromtimestamp,
    ) -> None:
        """`store` is a patient one; `clock` gives Unix time, which `local_time` reads for `hours`."""
        self._store = store
        self._catalogue = catalogue
        self._jobs = jobs
        self._quarantine = quarantine
        self._verifier = verifier
        self._metrics = metrics
        self.hours = hours
        self._every_days = every_days
        self._clock = clock
        self._sleep = sleep
        self._local_time = local_time
        self._throttle = Throttle(bytes_per_s, clock=monotonic, sleep=sleep)
        self._state: _State | None = None
        self._saved_at = clock()

    @property
    def last_run_at(self) -> float | None:
        """When a snapshot was last read to its end; None when never, or not known yet."""
        return None if self._state is None else self._state.last_run_at

    @property
    def at_work_on(self) -> str | None:
        """`repo@commit` of the snapshot that was begun."""
        return None if self._state is None else self._state.begun

    async def run(self) -> None:
        """For ever. Whatever goes wrong is logged and tried again later."""
        while True:
            try:
                pause_s = await self.step()
            except StoreError as error:
                log.error("the scrub has to wait for the store: %s", error)
                pause_s = _AFTER_AN_ERROR_S
            except Exception:
                log.exception("the scrub failed unexpectedly, and tries again later")
                pause_s = _AFTER_AN_ERROR_S
            if pause_s > 0:
                await self._sleep(pause_s)

    async def step(self) -> float:
        """Read back what is due, or what the quiet hours leave time for; the seconds to wait afterwards.

        Raises StoreError; the next step goes on at the same file.
        """
        state = self._state = self._state or await self._load()
        now = self._clock()
        arrived = {
            f"{repo_id}@{commit}": at
            for repo_id, held in (await self._catalogue.listing()).published.items()
            for commit, at in held.commits.items()
        }
        state.verified = {name: state.verified[name] for name in arrived if name in state.verified}
        # A snapshot was verified when it arrived.
        verified = {name: max(at, state.verified.get(name, 0.0)) for name, at in arrived.items()}
        decision = what_next(
            self._local_time(now), now, self.hours, verified, every_days=self._every_days, begun=state.begun
        )
        if isinstance(decision, Wait):
            return decision.seconds
        if state.begun != decision.name:
            state.begun, state.checked = decision.name, []
        await self._scrub(state, decision.name)
        return 0.0

    async def _scrub(self, state: _State, name: str) -> None:
        repo_id, _, commit = name.rpartition("@")
        try:
            manifest = await self._catalogue.manifest(repo_id, commit, fresh=True)
        except NoSuchModel:
            state.begun, state.checked = None, []
            return
        except StoreError as error:
            if not isinstance(error, DamagedManifest):
                # Where the store itself answers, only this manifest is bad; the others have their turn.
                await self._store.check()
            log.error("%s", error)
            await self._quarantine.put(repo_id, commit, {f"{OWN_FOLDER}/manifest.json": str(error)})
            await self._finish(state, name)
            return
        for file in manifest.files:
            if file.path in state.checked:
                continue
            if not self.hours.contain(self._local_time(self._clock())):
                await self._save(state)
                return
            fault = await fault_of(
                self._store, manifest, file, moved=self._count_bytes, throttle=self._throttle
            )
            if fault is not None and await self._is_gone(manifest):
                state.begun, state.checked = None, []
                return
            await self._note(manifest, file.path, fault)
            state.checked.append(file.path)
            if self._clock() - self._saved_at >= _SAVE_EVERY_S:
                await self._save(state)
        bad = await self._quarantine.of(repo_id, commit)
        stays_bad = (
            bool(bad) and self._verifier.can_repair(manifest) and not await self._repaired(manifest, bad)
        )
        await self._finish(state, name, again_tomorrow=stays_bad)

    async def _note(self, manifest: Manifest, path: str, fault: str | None) -> None:
        known = await self._quarantine.of(manifest.repo_id, manifest.commit)
        listed = {file.path for file in manifest.files}
        bad = {p: reason for p, reason in known.items() if p != path and p in listed}
        if fault is not None:
            bad[path] = fault
            if path not in known:
                self._metrics.bad_files.inc()
            log.error("%s@%s: %s is bad: %s", manifest.repo_id, manifest.commit, path, fault)
        if bad != known:
            await self._quarantine.put(manifest.repo_id, manifest.commit, bad)

    async def _repaired(self, manifest: Manifest, bad: Mapping[str, str]) -> bool:
        try:
            async with self._jobs.exclusive(manifest.repo_id):
                await self._verifier.repair(manifest, bad, _Untold())
        except (RepoBusy, JobFailure) as reason:
            log.warning("%s@%s is not repaired: %s", manifest.repo_id, manifest.commit, reason)
            return False
        return True

    async def _is_gone(self, manifest: Manifest) -> bool:
        """Whether the snapshot was deleted while it was read."""
        try:
            await self._catalogue.manifest(manifest.repo_id, manifest.commit, fresh=True)
        except NoSuchModel:
            return True
        return False

    async def _finish(self, state: _State, name: str, *, again_tomorrow: bool = False) -> None:
        now = self._clock()
        early_s = max(0.0, self._every_days - 1) * _A_DAY_S if again_tomorrow else 0.0
        state.verified[name] = now - early_s
        state.last_run_at = now
        state.begun, state.checked = None, []
        await self._save(state)

    async def _load(self) -> _State:
        try:
            return _State.model_validate_json(await read_small(self._store, SCRUB, _MAX_STATE_BYTES))
        except NoSuchObject:
            return _State()
        except ValidationError as error:
            log.error("%s cannot be read, the scrub begins anew: %s", SCRUB, error.errors()[0]["msg"])
            return _State()

    async def _save(self, state: _State) -> None:
        await self._store.put(SCRUB, canonical_json(state.model_dump()))
        self._saved_at = self._clock()

    def _count_bytes(self, n_bytes: int) -> None:
        if n_bytes > 0:
            self._metrics.scrubbed_bytes.inc(n_bytes)


class _Untold:
    """The Progress of a repair that nobody watches."""

    async def enter(self, state: JobState, *, commit: str | None = None) -> None:
        """Nobody is told."""

    def expect(self, files: Sequence[tuple[str, int]]) -> None:
        """Nobody is told."""

    def moved(self, path: str, n_bytes: int) -> None:
        """Nobody is told."""

    def resumed(self, path: str, n_bytes: int) -> None:
        """Nobody is told."""

    def file_done(self, path: str) -> None:
        """Nobody is told."""

    def found_bad(self, bad: BadFile) -> None:
        """Nobody is told."""
