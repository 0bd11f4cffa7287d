"""A registry that is killed, or whose store goes away, still brings the model, and does not fetch it twice.

Real processes throughout. `MSP_LONG=1` runs more of the same.
"""

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from msp_common.contracts.jobs import JobState
from msp_registry.stores.store import PART_BYTES
from support.fake_hub import FakeHub, FakeRepo
from support.minio_outage import MinioWithOutages
from support.platform_processes import eventually
from support.registry_process import END_WITHIN_S, RegistryProcess, sharded_model
from support.servers import run_server
from support.slow_line import SlowLine

LONG = os.environ.get("MSP_LONG") == "1"
LARGE, SMALL = "org/large", "org/small"
KILLS = 5
OUTAGE_S = 20.0

# What a kill loses is what was in memory: with these, some 25 MiB. Five stay well below half of LARGE.
ENVIRON = {"REGISTRY_PARALLEL_PARTS": "2", "REGISTRY_WINDOW_BYTES": str(4 * PART_BYTES)}

HUB_BYTES_PER_S = 64 << 20
"""Slow enough that kills find parts on their way, and the network's buffers empty."""


@pytest.fixture(scope="module")
def models() -> dict[str, dict[str, bytes]]:
    return {
        LARGE: sharded_model(7, shards=6, shard_bytes=80 << 20),
        SMALL: sharded_model(8, shards=3, shard_bytes=48 << 20),
    }


@pytest.fixture
def hub(models: dict[str, dict[str, bytes]]) -> Iterator[tuple[FakeHub, str]]:
    fake = FakeHub(repos={name: FakeRepo(files) for name, files in models.items()})
    with run_server(SlowLine(fake.app, bytes_per_s=HUB_BYTES_PER_S)) as url:
        yield fake, url


def total_of(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


def hashes(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


def sent_more(hub: FakeHub, n_bytes: int) -> None:
    """Wait until the hub has sent so many more bytes."""
    goal = hub.sent_bytes + n_bytes
    eventually(f"the hub has sent {n_bytes} more bytes", lambda: hub.sent_bytes >= goal, END_WITHIN_S)


@pytest.mark.parametrize("seed", range(4 if LONG else 1))
def test_a_registry_killed_at_random_moments_brings_the_whole_model(
    seed: int, hub: tuple[FakeHub, str], models: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    (fake, hub_url), files = hub, models[LARGE]
    total = total_of(files)
    moments = random.Random(seed)
    registry = RegistryProcess(
        tmp_path,
        REGISTRY_STORE=f"file://{tmp_path}/store",
        HF_ENDPOINT=hub_url,
        **ENVIRON,
    )
    try:
        registry.start()
        job = registry.download(LARGE)
        for _ in range(KILLS):
            sent_more(fake, int(moments.uniform(0.0, 0.18) * total))
            assert not registry.job(job.id).state.ended
            registry.kill()
            registry.start()
        ended = registry.ended(job.id)
        assert ended.state is JobState.SUCCEEDED, ended.error
        assert (ended.bytes_done, ended.files_done) == (total, len(files))
        assert registry.sha256_of_files(LARGE) == hashes(files)
        assert fake.sent_bytes < 1.5 * total
    finally:
        registry.close()


def test_a_registry_that_is_stopped_carries_on_where_it_was(
    hub: tuple[FakeHub, str], models: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    (fake, hub_url), files = hub, models[SMALL]
    total = total_of(files)
    registry = RegistryProcess(
        tmp_path,
        REGISTRY_STORE=f"file://{tmp_path}/store",
        HF_ENDPOINT=hub_url,
        **ENVIRON,
    )
    try:
        registry.start()
        job = registry.download(SMALL)
        sent_more(fake, total * 2 // 3)
        registry.stop()
        registry.start()
        ended = registry.ended(job.id)
        assert ended.state is JobState.SUCCEEDED, ended.error
        assert registry.sha256_of_files(SMALL) == hashes(files)
        assert fake.sent_bytes <= total + 4 * PART_BYTES
    finally:
        registry.close()


@pytest.mark.minio
@pytest.mark.parametrize("outage", ["stopped", "frozen"] if LONG else ["stopped"])
def test_a_job_outlives_a_store_that_is_away_in_the_middle_of_an_upload(
    outage: str, hub: tuple[FakeHub, str], models: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    (fake, hub_url), files = hub, models[SMALL]
    total = total_of(files)
    minio = MinioWithOutages(tmp_path / "minio")
    minio.start()
    registry = RegistryProcess(
        tmp_path,
        MINIO_ENDPOINT=minio.endpoint,
        MINIO_SVC_USER=minio.user,
        MINIO_SVC_PASSWORD=minio.password,
        HF_ENDPOINT=hub_url,
        **ENVIRON,
    )
    try:
        registry.start()
        job = registry.download(SMALL)
        sent_more(fake, total // 3)
        (minio.stop if outage == "stopped" else minio.freeze)()
        threading.Event().wait(OUTAGE_S)
        assert not registry.job(job.id).state.ended
        (minio.start if outage == "stopped" else minio.thaw)()
        ended = registry.ended(job.id)
        assert ended.state is JobState.SUCCEEDED, ended.error
        assert registry.sha256_of_files(SMALL) == hashes(files)
    finally:
        registry.close()
        minio.stop()
