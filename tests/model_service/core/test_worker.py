"""A worker's life, told in the order in which the service registry hears it."""

import asyncio
import itertools
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.workers import WorkerState
from msp_common.errors import Unavailable
from msp_model_service.life import Status, backoff_s, may_become
from msp_model_service.phases import Phases
from msp_model_service.weights.fetch_errors import NotYet, Refused
from support.worker_fakes import COMMIT, PATIENCE_S, GatedEngine, ScriptedWeights, Workbench, gpu, plan

S = WorkerState


def test_states_follow_each_other_as_drawn() -> None:
    allowed = {
        (S.STARTING, S.FETCHING),
        (S.FETCHING, S.LOADING),
        (S.LOADING, S.READY),
        *((state, S.FAILED) for state in (S.STARTING, S.FETCHING, S.LOADING, S.READY)),
        *((state, S.DRAINING) for state in S if state is not S.DRAINING),
    }
    for now, then in itertools.product(S, S):
        assert may_become(now, then) is ((now, then) in allowed), (now, then)


def test_waits_grow_to_four_seconds() -> None:
    assert [backoff_s(n) for n in (1, 2, 3, 4, 5, 600)] == [0.5, 1, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (Status(S.LOADING, 0.4, "weights"), "loading (40%): weights"),
        (Status(S.STARTING), "starting"),
        (Status(S.FAILED, reason="no"), "failed: no"),
    ],
)
def test_a_status_is_a_sentence(status: Status, sentence: str) -> None:
    assert status.sentence() == sentence


def states(bench: Workbench) -> list[str]:
    return [str(state) for state, _ in itertools.groupby(lease.state for lease in bench.office.leases)]


async def test_a_worker_registers_before_it_loads_and_ends_ready(tmp_path: Path) -> None:
    async with Workbench(tmp_path) as bench:
        ready = await bench.office.until(lambda lease: lease.state is S.READY)
        assert states(bench)[0] in ("starting", "fetching")
        assert bench.gated.folder == tmp_path
        assert ready.model.commit == COMMIT
        assert ready.capabilities.context_length == 512
        assert ready.capabilities.engine == "gated"
        assert ready.capabilities.paths == ["/v1/embeddings"]
        assert ready.load.queued == 2
        assert bench.worker.engine() is bench.engine
    assert states(bench)[-1] == "draining"
    assert bench.office.released == ["w1"]
    assert bench.gated.unloads == 1


async def test_progress_of_fetching_and_of_loading_is_told(tmp_path: Path) -> None:
    weights = ScriptedWeights(tmp_path)
    weights.arrived.clear()
    engine = GatedEngine(("weights", "warm-up"))
    async with Workbench(tmp_path, weights=weights, engine=engine) as bench:
        bench.worker.lease._heartbeat_s = 0.01  # heartbeats bring the progress; here they may come faster
        fetching = await bench.office.until(lambda lease: lease.progress is not None)
        assert (fetching.state, fetching.progress) == (S.FETCHING, 0.25)
        assert fetching.reason == "fetching model.safetensors"
        weights.arrived.set()
        engine.gates["weights"].set()
        loading = await bench.office.until(lambda lease: lease.reason == "warm-up")
        assert (loading.state, loading.progress) == (S.LOADING, 0.5)
        with pytest.raises(Unavailable, match=r"org/model is not ready here: loading \(50%\): warm-up") as no:
            bench.worker.engine()
        assert no.value.headers() == {"Retry-After": "5", "x-should-retry": "true"}
        engine.open_all()
        await bench.office.until(lambda lease: lease.state is S.READY)
        page = generate_latest(bench.metrics.registry).decode()
        for phase in ("fetch", "import", "weights", "warm-up"):
            assert f'msp_worker_start_phase_seconds{{phase="{phase}"}}' in page
        assert 'msp_worker_state{msp_worker_state="ready"} 1.0' in page
        assert "msp_worker_queued 2.0" in page


async def test_the_engine_is_imported_while_files_are_on_their_way(tmp_path: Path) -> None:
    weights = ScriptedWeights(tmp_path)
    weights.arrived.clear()
    async with Workbench(tmp_path, weights=weights) as bench:
        assert await asyncio.to_thread(bench.made.wait, PATIENCE_S)
        assert bench.worker.status.state is S.FETCHING
        weights.arrived.set()
        await bench.office.until(lambda lease: lease.state is S.READY)


async def test_what_may_come_later_is_waited_for_with_growing_patience(tmp_path: Path) -> None:
    obstacles: list[Exception] = [
        NotYet("the registry is away"),
        NotYet("the registry is away"),
        NotYet("no model"),
    ]
    weights = ScriptedWeights(tmp_path, obstacles)
    async with Workbench(tmp_path, weights=weights) as bench:
        waiting = await bench.office.until(lambda lease: "trying again" in (lease.reason or ""))
        assert waiting.state is S.FETCHING
        assert waiting.reason == "the registry is away; trying again"
        await bench.office.until(lambda lease: lease.state is S.READY)
        assert bench.waits == [1, 2, 3]
        assert weights.attempts == 4


@pytest.mark.parametrize(
    ("obstacle", "engine", "reason"),
    [
        (Refused("model.safetensors has wrong bytes"), None, "model.safetensors has wrong bytes"),
        (None, "needs more memory", "needs more memory"),
        (ValueError("odd config"), None, "ValueError: odd config"),
    ],
)
async def test_a_failed_start_is_told_and_the_process_stays_to_tell_it(
    tmp_path: Path, obstacle: Exception | None, engine: str | None, reason: str
) -> None:
    gated = GatedEngine(fails=engine).open_all()
    weights = ScriptedWeights(tmp_path, [obstacle] if obstacle else [])
    bench = Workbench(tmp_path, weights=weights, engine=gated)
    async with bench:
        failed = await bench.office.until(lambda lease: lease.state is S.FAILED)
        assert failed.reason == reason
        assert gated.unloads == (1 if engine else 0)
        with pytest.raises(Unavailable, match=reason) as no:
            bench.worker.engine()
        assert no.value.headers() == {"x-should-retry": "false"}
    assert states(bench)[-1] == "draining"


async def test_the_wrong_gpu_fails_the_worker_before_anything_is_fetched(tmp_path: Path) -> None:
    weights = ScriptedWeights(tmp_path)
    seen = GpuReport(gpus=[gpu(0)])
    bench = Workbench(tmp_path, weights=weights, gpus=seen, plan=plan(expected_gpu_uuid="GPU-else"))
    async with bench:
        failed = await bench.office.until(lambda lease: lease.state is S.FAILED)
        assert "pinned to the GPU GPU-else" in (failed.reason or "")
        assert weights.attempts == 0


async def test_an_engine_that_breaks_is_told_at_once_and_reported_for_a_restart(tmp_path: Path) -> None:
    async with Workbench(tmp_path) as bench:
        await bench.office.until(lambda lease: lease.state is S.READY)
        bench.gated.broken = "CUDA error: device-side assert"
        assert bench.worker.status == Status(S.FAILED, reason="CUDA error: device-side assert")
        with pytest.raises(Unavailable, match="device-side assert"):
            bench.worker.engine()
        async with asyncio.timeout(PATIENCE_S):
            await bench.broken.wait()
        assert bench.office.leases[-1].state is S.FAILED
        await bench.worker.drain()
    assert bench.office.leases[-1].state is S.FAILED
    assert bench.office.released == []
    assert bench.office.closed


async def test_a_draining_worker_still_answers_what_is_on_its_way(tmp_path: Path) -> None:
    async with Workbench(tmp_path) as bench:
        await bench.office.until(lambda lease: lease.state is S.READY)
        await bench.worker.drain()
        assert bench.office.leases[-1].state is S.DRAINING
        assert bench.worker.engine() is bench.engine


async def test_a_load_that_ends_during_draining_does_not_make_the_worker_ready(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with Workbench(tmp_path, engine=engine) as bench:
        await bench.office.until(lambda lease: lease.state is S.LOADING)
        await bench.worker.drain()
        engine.open_all()
        await bench.office.until(
            lambda lease: lease.capabilities.context_length == 512 or lease.state is S.DRAINING
        )
        assert bench.worker.status.state is S.DRAINING
    assert "ready" not in states(bench)


async def test_ending_a_worker_that_loads_leaves_the_load_behind(tmp_path: Path) -> None:
    engine = GatedEngine()
    bench = Workbench(tmp_path, engine=engine)
    bench.worker.start()
    await bench.office.until(lambda lease: lease.reason == "weights" or lease.state is S.LOADING)
    async with asyncio.timeout(PATIENCE_S):
        await bench.worker.stop()
    assert bench.worker.loading_in_thread
    assert bench.office.released == ["w1"]
    engine.open_all()


async def test_ending_a_worker_that_waits_for_its_model_is_immediate(tmp_path: Path) -> None:
    weights = ScriptedWeights(tmp_path)
    weights.arrived.clear()
    bench = Workbench(tmp_path, weights=weights)
    bench.worker.start()
    await bench.office.until(lambda lease: lease.state is S.FETCHING)
    async with asyncio.timeout(PATIENCE_S):
        await bench.worker.stop()
    assert not bench.worker.loading_in_thread


def test_phases_are_timed_one_after_the_other() -> None:
    told: list[tuple[str, float]] = []
    clock = iter([0.0, 2.0, 2.0, 5.0])
    phases = Phases(lambda phase, seconds: told.append((phase, seconds)), lambda: next(clock))
    phases.enter("weights")
    phases.enter("weights")
    phases.enter("warm-up")
    phases.end()
    phases.end()
    assert told == [("weights", 2.0), ("warm-up", 3.0)]
