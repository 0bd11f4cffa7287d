"""Verifying: a wrong bit is found, not served, and repaired where there is a source."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from msp_common.contracts.jobs import BadFile, JobState, VerifyRequest
from msp_registry.catalogue import Catalogue
from msp_registry.failures import Corrupt, HubUnreachable, NoSuchRevision
from msp_registry.layout import file_key, manifest_key, quarantine_key
from msp_registry.metrics import Metrics
from msp_registry.stores.folder_store import FolderStore
from msp_registry.stores.store import StoreUnavailable
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.upkeep.throttle import Throttle
from msp_registry.upkeep.verifying import Verifier, fault_of
from support.registry_files import COMMITS, publish, tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_parts import HUB, RegistryParts, ToldRepairer
from support.registry_progress import ToldProgress

A, B, _ = COMMITS
MODEL = tiny_model(40_000)
Spoil = Callable[[bytes], bytes | None]
WEIGHTS = file_key("org/a", A, "model.safetensors")


def flip_a_bit(data: bytes, at: int = 100) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repairer(store: MemoryStore) -> ToldRepairer:
    return ToldRepairer(store, MODEL)


@pytest.fixture
def parts(store: MemoryStore, repairer: ToldRepairer) -> RegistryParts:
    return RegistryParts(store, repairer=repairer)


async def test_a_whole_model_is_read_to_its_last_byte(parts: RegistryParts) -> None:
    await parts.publish("org/a", MODEL)
    progress = ToldProgress()
    await parts.verifier.verify("org/a", VerifyRequest(), progress)
    assert (progress.states, progress.commit) == ([JobState.VERIFYING], A)
    assert progress.expected == {path: len(data) for path, data in MODEL.items()}
    assert dict(progress.moved_bytes) == {path: len(data) for path, data in MODEL.items() if data}
    assert sorted(progress.done) == sorted(MODEL)
    assert progress.bad == []


async def test_a_flipped_bit_on_disk_is_found_and_quarantined(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.prepare()
    parts = RegistryParts(store)
    await parts.publish("org/a", MODEL)
    place = tmp_path / WEIGHTS
    place.write_bytes(flip_a_bit(place.read_bytes(), 99_999))
    progress = ToldProgress()
    with pytest.raises(Corrupt) as raised:
        await parts.verifier.verify("org/a", VerifyRequest(), progress)
    assert (raised.value.code, raised.value.retryable) == ("corrupt", False)
    assert "model.safetensors (its sha256 is" in str(raised.value)
    assert "import the same files again with POST /models/org/a/import" in str(raised.value)
    assert f"DELETE /models/org/a?revision={A}" in str(raised.value)
    assert [bad.path for bad in progress.bad] == ["model.safetensors"]
    assert progress.moved_bytes["model.safetensors"] == 0
    assert list(await Quarantine(store).of("org/a", A)) == ["model.safetensors"]
    # Put right by hand, it is served again after another look.
    place.write_bytes(MODEL["model.safetensors"])
    await parts.verifier.verify("org/a", VerifyRequest(), ToldProgress())
    assert await Quarantine(store).of("org/a", A) == {}
    assert not (tmp_path / quarantine_key("org/a", A)).exists()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: flip_a_bit(data), "its sha256 is"),
        (lambda data: data[:-1], "its manifest says"),
        (lambda data: data + b"x", "longer than"),
        (lambda data: b"", "0 bytes"),
        (lambda data: None, "missing in the store"),
    ],
)
async def test_whatever_is_wrong_is_named_and_only_that_is_repaired(
    parts: RegistryParts, store: MemoryStore, repairer: ToldRepairer, spoil: Spoil, reason: str
) -> None:
    await parts.publish("org/a", MODEL, source=HUB + "/")
    spoiled = spoil(store.objects.pop(WEIGHTS))
    if spoiled is not None:
        store.objects[WEIGHTS] = spoiled
    progress = ToldProgress()
    await parts.verifier.verify("org/a", VerifyRequest(), progress)
    assert repairer.asked == ["model.safetensors"]
    assert store.objects[WEIGHTS] == MODEL["model.safetensors"]
    found, repaired = progress.bad
    assert (found.path, found.repaired, reason in found.reason) == ("model.safetensors", False, True)
    assert repaired == BadFile(path="model.safetensors", reason=found.reason, repaired=True)
    assert await Quarantine(store).of("org/a", A) == {}
    assert parts.counted("bad_files_total") == 1


@pytest.mark.parametrize(
    ("source", "repair", "remedy"),
    [
        ("folder", True, "import the same files again"),
        ("https://elsewhere", True, "online with HF_ENDPOINT=https://elsewhere"),
        (HUB, False, "verify it with `repair`"),
    ],
)
async def test_without_a_source_or_leave_to_repair_the_job_fails(
    parts: RegistryParts, store: MemoryStore, repairer: ToldRepairer, source: str, repair: bool, remedy: str
) -> None:
    await parts.publish("org/a", MODEL, source=source)
    store.objects[WEIGHTS] = flip_a_bit(store.objects[WEIGHTS])
    with pytest.raises(Corrupt, match=remedy):
        await parts.verifier.verify("org/a", VerifyRequest(repair=repair), ToldProgress())
    assert repairer.asked == []
    assert list(await parts.quarantine.of("org/a", A)) == ["model.safetensors"]


async def test_a_repair_that_fails_leaves_the_quarantine(
    parts: RegistryParts, store: MemoryStore, repairer: ToldRepairer
) -> None:
    await parts.publish("org/a", MODEL, source=HUB)
    del store.objects[WEIGHTS]
    repairer.failure = HubUnreachable("no connection")
    with pytest.raises(HubUnreachable):
        await parts.verifier.verify("org/a", VerifyRequest(), ToldProgress())
    assert list(await Quarantine(store).of("org/a", A)) == ["model.safetensors"]


async def test_a_manifest_is_read_anew_and_not_remembered(parts: RegistryParts, store: MemoryStore) -> None:
    await parts.publish("org/a", MODEL)
    await parts.catalogue.manifest("org/a", A)
    store.objects[manifest_key("org/a", A)] = b"{"
    with pytest.raises(Corrupt, match="is no manifest"):
        await parts.verifier.verify("org/a", VerifyRequest(), ToldProgress())


async def test_an_unknown_revision_is_no_success(parts: RegistryParts) -> None:
    await parts.publish("org/a", MODEL)
    with pytest.raises(NoSuchRevision):
        await parts.verifier.verify("org/a", VerifyRequest(revision="v9"), ToldProgress())


async def test_a_store_that_is_away_condemns_no_file() -> None:
    store = MemoryStore()
    parts = RegistryParts(store)
    manifest = await parts.publish("org/a", MODEL)
    store.down = True
    with pytest.raises(StoreUnavailable):
        await fault_of(store, manifest, manifest.files[0], moved=lambda n_bytes: None)


async def test_a_file_that_a_living_store_cannot_read_is_bad() -> None:
    class BrokenSector(MemoryStore):
        async def get(
            self, key: str, offset: int = 0, length: int | None = None
        ) -> AsyncGenerator[bytes, None]:
            if key == WEIGHTS:
                yield MODEL["model.safetensors"][:1000]
                raise StoreUnavailable("Input/output error")
            async for chunk in super().get(key, offset, length):
                yield chunk

    store = BrokenSector()
    catalogue, metrics = Catalogue(store), Metrics()
    await publish(store, catalogue, "org/a", MODEL)
    quarantine = Quarantine(store)
    progress = ToldProgress()
    with pytest.raises(Corrupt, match="cannot be read: Input/output error"):
        await Verifier(store, catalogue, quarantine, metrics).verify("org/a", VerifyRequest(), progress)
    assert progress.moved_bytes["model.safetensors"] == 0


async def test_a_quarantine_is_known_again_after_a_restart_without_asking_per_file(
    store: MemoryStore,
) -> None:
    quarantine = Quarantine(store)
    await quarantine.put("org/a", A, {"x": "bad"})
    again = Quarantine(store)
    assert again.files() == 0
    await again.restore()
    assert (again.files(), again.all()) == (1, {("org/a", A): {"x": "bad"}})
    store.down = True
    assert await again.of("org/a", A) == {"x": "bad"}
    assert await again.of("org/b", B) == {}


async def test_a_bad_file_is_not_served_even_if_that_cannot_be_written_down(store: MemoryStore) -> None:
    quarantine = Quarantine(store)
    await quarantine.restore()
    store.down = True
    with pytest.raises(StoreUnavailable):
        await quarantine.put("org/a", A, {"x": "bad"})
    assert await quarantine.of("org/a", A) == {"x": "bad"}


async def test_a_damaged_quarantine_is_told_of_until_the_next_look(
    store: MemoryStore, parts: RegistryParts
) -> None:
    await parts.publish("org/a", MODEL)
    await store.put(quarantine_key("org/a", A), b"{]")
    assert list(await parts.quarantine.of("org/a", A)) == [".registry/quarantine.json"]
    await parts.verifier.verify("org/a", VerifyRequest(), ToldProgress())
    assert parts.quarantine.files() == 0
    assert quarantine_key("org/a", A) not in store.objects


async def test_a_throttle_lets_through_so_many_bytes_a_second_and_saves_nothing_up() -> None:
    now = 0.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    throttle = Throttle(1000, clock=lambda: now, sleep=sleep)
    for _ in range(10):
        await throttle.passed(500)
    assert now == pytest.approx(5)
    now += 100
    await throttle.passed(1000)
    assert slept[-1] == pytest.approx(1)
    before = len(slept)
    await throttle.passed(1)
    assert len(slept) == before
