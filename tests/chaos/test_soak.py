"""Very many requests leave nothing behind: no memory, no open files, no counts. Only with `--long`."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from msp_gateway.usage.ledger import KEPT_S, MAX_KEPT
from support.chaos_cluster import PATIENCE_S, ChaosCluster, Program, chaos_cluster
from support.chaos_load import Ended, Load
from support.long_runs import LONG, SEED
from support.platform_processes import eventually

REQUESTS = 200_000
CLIENTS = 16
SAMPLES = 80
MOST_WORDS = 8
"""Short answers: what is kept of a request does not depend on their length, and the soak's time does."""

GROWTH_BYTES = 8 << 20
"""From the middle to the end, of one process. A leak of 84 bytes a request is more."""
KEPT_BYTES = 2 << 10
"""The gateway keeps each request for some minutes, so that its worker may tell of its tokens: on a machine
that is quicker at the end than in the middle it holds more of them."""
MORE_FILES = 2 * CLIENTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """What one process holds at one moment."""

    resident_bytes: int
    open_files: int

    @classmethod
    def of(cls, program: Program) -> "Sample":
        return cls(program.resident_bytes(), program.open_files())


Samples = list[dict[str, Sample]]
"""By the program's name, one for every few requests."""


def kept(moments: list[tuple[float, int]], end: int) -> int:
    """How many requests the gateway keeps at this sample, from (seconds, requests so far) of all samples."""
    now, total = moments[end]
    before = max((count for moment, count in moments if moment <= now - KEPT_S), default=0)
    return min(total - before, MAX_KEPT)


async def soaked(cluster: ChaosCluster) -> tuple[Load, Samples, list[tuple[float, int]]]:
    """The load, what all programs held on the way, and when: (seconds, requests so far) of each sample."""
    load, samples = Load(cluster.gateway.url, SEED, most_words=MOST_WORDS), Samples()
    moments: list[tuple[float, int]] = []
    loading = asyncio.create_task(load.run(CLIENTS, at_most=REQUESTS))
    while not loading.done():
        await asyncio.wait({loading}, timeout=0.1)
        if load.findings.total >= len(samples) * REQUESTS // SAMPLES:
            samples.append({program.name: Sample.of(program) for program in cluster.programs})
            moments.append((asyncio.get_running_loop().time(), load.findings.total))
            resident = {name: sample.resident_bytes >> 20 for name, sample in samples[-1].items()}
            log.warning("%d requests; MiB: %s", load.findings.total, resident)
    await loading
    return load, samples, moments


def typical(samples: Samples, name: str) -> tuple[float, float]:
    """Resident bytes and open files, without the noise of single samples."""
    of_it = [sample[name] for sample in samples]
    return median(s.resident_bytes for s in of_it), median(s.open_files for s in of_it)


def at_rest(cluster: ChaosCluster) -> bool:
    """Whether nobody works on anything, by their own words."""
    gateway = cluster.gateway.metric("msp_gateway_requests_in_flight")
    workers = [w.metric("msp_worker_in_flight") + w.metric("msp_worker_queued") for w in cluster.all_workers]
    return gateway == 0 and not any(workers)


@pytest.mark.skipif(not LONG, reason="a soak of many minutes; ./scripts/test.sh unit --long runs it")
def test_very_many_requests_leave_nothing_behind(tmp_path: Path) -> None:
    with chaos_cluster(tmp_path) as cluster:
        load, samples, moments = asyncio.run(soaked(cluster))
        found = load.findings
        log.warning(
            "%s", {f"{kind}: {ended}": count for (kind, ended), count in sorted(found.counts.items())}
        )
        assert not found.wrong, found.wrong[:5]
        assert {ended for _, ended in found.counts} == {Ended.RIGHT, Ended.LEFT}
        eventually("all counters are back at zero", lambda: at_rest(cluster), PATIENCE_S)
        middle, end = samples[SAMPLES * 7 // 16 : SAMPLES * 9 // 16], samples[-SAMPLES // 8 :]
        more_kept = max(0, kept(moments, -1) - kept(moments, SAMPLES // 2))
        for program in cluster.programs:
            (bytes_then, files_then), (bytes_now, files_now) = (
                typical(part, program.name) for part in (middle, end)
            )
            log.warning(
                "%s: %.1f MiB at first, %.1f in the middle, %.1f at the end",
                program.name,
                *(size / 2**20 for size in (samples[0][program.name].resident_bytes, bytes_then, bytes_now)),
            )
            allowed = GROWTH_BYTES + (KEPT_BYTES * more_kept if program is cluster.gateway else 0)
            assert bytes_now - bytes_then < allowed, program.name
            assert files_now - files_then < MORE_FILES, program.name
