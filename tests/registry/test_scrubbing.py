"""The scrub: what is due when, that it keeps its hours and its rate, and that it finds a flipped bit."""

from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path

import pytest

from msp_registry.failures import HubUnreachable
from msp_registry.layout import SCRUB, file_key, manifest_key
from msp_registry.stores.folder_store import FolderStore
from msp_registry.stores.store import ObjectStore, StoreUnavailable
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.upkeep.scrub_schedule import Due, Wait, quiet_hours, what_next
from msp_registry.upkeep.scrubbing import Scrubber
from support.registry_files import COMMITS, tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_parts import HUB, RegistryParts, ToldRepairer

A, B, _ = COMMITS
MODEL = tiny_model(40_000)
MODEL_BYTES = sum(map(len, MODEL.values()))
WEIGHTS = file_key("org/a", A, "model.safetensors")
MIDNIGHT = datetime(2026, 3, 1).timestamp()
DAY_S, HOUR_S = 86_400.0, 3600.0


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 1, hour, minute)


@pytest.mark.parametrize(
    ("hours", "now", "inside", "begin_in_s"),
    [
        ("01:00-05:00", at(0, 30), False, 1800),
        ("01:00-05:00", at(1), True, 0),
        ("01:00-05:00", at(4, 59), True, 0),
        ("01:00-05:00", at(5), False, 20 * HOUR_S),
        ("22:30-04:00", at(23), True, 0),
        ("22:30-04:00", at(3, 59), True, 0),
        ("22:30-04:00", at(12), False, 10.5 * HOUR_S),
        ("00:00-00:00", at(12), True, 0),
    ],
)
def test_quiet_hours_may_pass_midnight(hours: str, now: datetime, inside: bool, begin_in_s: float) -> None:
    quiet = quiet_hours(hours)
    assert quiet is not None
    assert (quiet.contain(now), quiet.begin_in_s(now)) == (inside, begin_in_s)


def test_off_means_never() -> None:
    assert quiet_hours("off") is None


@pytest.mark.parametrize(
    ("hour", "verified", "begun", "decision"),
    [
        (2, {"new": 0, "old": -31 * DAY_S, "older": -40 * DAY_S}, None, Due("older")),
        (2, {"new": 0, "old": -31 * DAY_S, "older": -40 * DAY_S}, "old", Due("old")),
        (2, {"new": 0}, "deleted", Wait(HOUR_S)),
        (2, {"a": -30 * DAY_S + 2.5 * HOUR_S}, None, Wait(HOUR_S / 2)),
        (2, {}, None, Wait(HOUR_S)),
        (12, {"older": -40 * DAY_S}, "older", Wait(HOUR_S)),
        (0, {"older": -40 * DAY_S}, None, Wait(HOUR_S)),
    ],
)
def test_the_longest_unverified_is_due_and_a_begun_one_first(
    hour: int, verified: dict[str, float], begun: str | None, decision: Due | Wait
) -> None:
    quiet = quiet_hours("01:00-05:00")
    assert quiet is not None
    times = {name: MIDNIGHT + moment for name, moment in verified.items()}
    unix_now = MIDNIGHT + hour * HOUR_S
    assert what_next(at(hour), unix_now, quiet, times, every_days=30, begun=begun) == decision


class Night:
    """Parts over a store and a scrub; sleeping lets the time pass."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        repairer: ToldRepairer | None = None,
        bytes_per_s: float = 1e12,
        hours: str = "01:00-05:00",
    ) -> None:
        self.parts = RegistryParts(store, repairer=repairer)
        self.parts.now = MIDNIGHT + 2 * HOUR_S
        self.slept: list[float] = []
        quiet = quiet_hours(hours)
        assert quiet is not None
        self.scrubber = Scrubber(
            store,
            self.parts.catalogue,
            self.parts.jobs,
            self.parts.quarantine,
            self.parts.verifier,
            self.parts.metrics,
            hours=quiet,
            every_days=30,
            bytes_per_s=bytes_per_s,
            clock=self.parts.clock,
            monotonic=self.parts.clock,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.parts.now += seconds

    async def steps(self) -> float:
        """Until there is nothing to do; gives the pause after that."""
        while (pause_s := await self.scrubber.step()) == 0:
            pass
        return pause_s

    @property
    def scrubbed_bytes(self) -> float:
        return self.parts.counted("scrubbed_bytes_total")


class OldStore(MemoryStore):
    """In memory everything is as old as the epoch, and so is due; `reads` has the keys that were read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self.reads.append(key)
        return super().get(key, offset, length)


async def test_every_due_snapshot_is_read_once_and_then_rests() -> None:
    night = Night(OldStore())
    await night.parts.publish("org/a", MODEL)
    await night.parts.publish("org/a", MODEL, commit=B, ref="v2")
    assert await night.steps() == HOUR_S
    assert night.scrubbed_bytes == 2 * MODEL_BYTES
    assert night.scrubber.last_run_at == night.parts.now
    night.parts.now += 29 * DAY_S
    await night.steps()
    assert night.scrubbed_bytes == 2 * MODEL_BYTES
    night.parts.now += DAY_S
    await night.steps()
    assert night.scrubbed_bytes == 4 * MODEL_BYTES
    assert night.parts.quarantine.files() == 0


async def test_another_process_knows_what_was_read() -> None:
    store = OldStore()
    night = Night(store)
    await night.parts.publish("org/a", MODEL)
    await night.steps()
    again = Night(store)
    assert await again.steps() == HOUR_S
    assert again.scrubbed_bytes == 0
    assert again.scrubber.last_run_at == night.scrubber.last_run_at


async def test_a_damaged_memory_only_means_to_begin_anew() -> None:
    store = OldStore()
    await store.put(SCRUB, b"{]")
    night = Night(store)
    await night.parts.publish("org/a", MODEL)
    await night.steps()
    assert night.scrubbed_bytes == MODEL_BYTES


async def test_a_flipped_bit_on_disk_is_found_and_quarantined(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.prepare()
    night = Night(store)
    await night.parts.publish("org/a", MODEL)
    place = tmp_path / WEIGHTS
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 0x10
    place.write_bytes(data)
    night.parts.now += 400 * 365 * DAY_S
    await night.steps()
    assert list(await Quarantine(store).of("org/a", A)) == ["model.safetensors"]
    assert night.parts.counted("bad_files_total") == 1
    # Put right by hand, the next time round lifts the quarantine.
    place.write_bytes(MODEL["model.safetensors"])
    night.parts.now += 30 * DAY_S
    await night.steps()
    assert await Quarantine(store).of("org/a", A) == {}


async def test_what_came_from_the_hub_is_repaired() -> None:
    store = OldStore()
    repairer = ToldRepairer(store, MODEL)
    night = Night(store, repairer=repairer)
    await night.parts.publish("org/a", MODEL, source=HUB)
    del store.objects[WEIGHTS]
    await night.steps()
    assert repairer.asked == ["model.safetensors"]
    assert store.objects[WEIGHTS] == MODEL["model.safetensors"]
    assert night.parts.quarantine.files() == 0


async def test_a_repair_that_fails_is_tried_again_the_next_night() -> None:
    store = OldStore()
    repairer = ToldRepairer(store, MODEL)
    repairer.failure = HubUnreachable("no connection")
    night = Night(store, repairer=repairer)
    await night.parts.publish("org/a", MODEL, source=HUB)
    del store.objects[WEIGHTS]
    await night.steps()
    assert list(night.parts.quarantine.all()) == [("org/a", A)]
    await night.steps()
    assert len(repairer.asked) == 1
    repairer.failure = None
    night.parts.now += DAY_S
    await night.steps()
    assert night.parts.quarantine.files() == 0


async def test_a_model_that_a_job_is_at_work_on_is_not_repaired_meanwhile() -> None:
    store = OldStore()
    repairer = ToldRepairer(store, MODEL)
    night = Night(store, repairer=repairer)
    await night.parts.publish("org/a", MODEL, source=HUB)
    del store.objects[WEIGHTS]
    async with night.parts.jobs.exclusive("org/a"):
        await night.steps()
    assert repairer.asked == []
    assert night.parts.quarantine.files() == 1


async def test_the_rate_is_kept() -> None:
    night = Night(OldStore(), bytes_per_s=1000)
    await night.parts.publish("org/a", MODEL)
    begun = night.parts.now
    await night.steps()
    assert night.parts.now - begun == pytest.approx(MODEL_BYTES / 1000, abs=1)


async def test_when_the_hours_end_it_pauses_between_files_and_goes_on_the_next_night() -> None:
    store = OldStore()
    # The weights alone take longer than the hours.
    night = Night(store, bytes_per_s=len(MODEL["model.safetensors"]) / (4 * HOUR_S))
    files = MODEL | {"z-last.txt": b"the end"}
    await night.parts.publish("org/a", files)
    assert await night.steps() > 0
    assert night.scrubber.at_work_on == f"org/a@{A}"
    assert night.scrubbed_bytes == MODEL_BYTES
    assert night.scrubber.last_run_at is None
    # The process is another one by then.
    next_night = Night(store)
    next_night.parts.now = night.parts.now
    assert await next_night.steps() > 0
    assert next_night.scrubbed_bytes == 0
    next_night.parts.now = MIDNIGHT + DAY_S + 1 * HOUR_S
    store.reads.clear()
    await next_night.steps()
    assert next_night.scrubbed_bytes == len(b"the end")
    assert WEIGHTS not in store.reads
    assert next_night.scrubber.at_work_on is None


async def test_a_model_deleted_while_it_is_read_is_no_bad_model() -> None:
    class Deleting(OldStore):
        """When the weights are asked for, somebody deletes the model."""

        def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
            if key == WEIGHTS:
                for gone in [k for k in self.objects if k.startswith("org/a/")]:
                    del self.objects[gone]
            return super().get(key, offset, length)

    night = Night(Deleting())
    await night.parts.publish("org/a", MODEL)
    assert await night.steps() == HOUR_S
    assert night.parts.quarantine.files() == 0
    assert night.scrubber.at_work_on is None


async def test_a_damaged_manifest_is_told_of_and_holds_nothing_up() -> None:
    store = OldStore()
    night = Night(store)
    await night.parts.publish("org/a", MODEL)
    await night.parts.publish("org/b", MODEL)
    store.objects[manifest_key("org/a", A)] = b"{"
    await night.steps()
    assert list(await night.parts.quarantine.of("org/a", A)) == [".registry/manifest.json"]
    assert night.scrubbed_bytes == MODEL_BYTES


async def test_a_manifest_on_a_broken_sector_holds_nothing_up() -> None:
    class BrokenSector(OldStore):
        def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
            if key == manifest_key("org/a", A):
                raise StoreUnavailable("input/output error")
            return super().get(key, offset, length)

    night = Night(BrokenSector())
    await night.parts.publish("org/a", MODEL)
    await night.parts.publish("org/b", MODEL)
    assert await night.steps() == HOUR_S
    assert await night.parts.quarantine.of("org/a", A) == {".registry/manifest.json": "input/output error"}
    assert night.scrubbed_bytes == MODEL_BYTES


async def test_a_store_that_is_away_ends_nothing() -> None:
    store = OldStore()

    class Enough(Exception):
        """Ends what runs for ever."""

    class ShortNight(Night):
        async def sleep(self, seconds: float) -> None:
            store.down = False
            await super().sleep(seconds)
            if len(self.slept) == 2:
                raise Enough

    night = ShortNight(store)
    await night.parts.publish("org/a", MODEL)
    store.down = True
    with pytest.raises(Enough):
        await night.scrubber.run()
    assert night.slept == [60.0, HOUR_S]
    assert night.scrubbed_bytes == MODEL_BYTES
    assert night.parts.quarantine.files() == 0
