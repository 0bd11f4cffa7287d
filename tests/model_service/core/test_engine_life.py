"""An engine is made, loaded, drained and unloaded when that is asked for, and the same again."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msp_common.contracts.workers import WorkerLoad
from msp_model_service.engines.engine_life import EngineLife, EngineState
from msp_model_service.engines.lifecycle import Engine, EngineLoadFailed
from support.worker_fakes import PATIENCE_S, GatedEngine

FOLDER = Path("/nowhere")


def quiet(phase: str, done: float | None) -> None:
    pass


class Busy(GatedEngine):
    """Has as much to do as it is told; `asked` is set once somebody wants to know."""

    def __init__(self, fails: str | None = None, gates: tuple[str, ...] = ()) -> None:
        super().__init__(gates, fails)
        self.running = 0
        self.asked = threading.Event()

    def load_now(self) -> WorkerLoad:
        now = WorkerLoad(in_flight=self.running)
        self.asked.set()
        return now


def test_a_life_from_its_beginning_to_its_end_and_again() -> None:
    made: list[Busy] = []

    def make() -> Engine:
        made.append(Busy())
        return made[-1]

    life = EngineLife(make)
    for turn in (0, 1):
        assert (life.state, life.engine) == (EngineState.ABSENT, None)
        engine = life.load(FOLDER, quiet)
        assert engine is made[turn]
        assert (life.state, life.engine) == (EngineState.READY, engine)
        assert life.drain(within_s=PATIENCE_S)
        assert (life.state, life.engine) == (EngineState.DRAINING, engine)
        life.unload()
        life.unload()
        assert made[turn].unloads == 1


def test_what_is_made_beforehand_is_what_is_loaded() -> None:
    made: list[Engine] = []

    def make() -> Engine:
        made.append(Busy())
        return made[-1]

    life = EngineLife(make)
    assert life.make() is life.make()
    assert life.load(FOLDER, quiet) is made[0]
    assert len(made) == 1


def test_a_failed_load_leaves_nothing_and_the_next_may_succeed() -> None:
    engines = [Busy(fails="no room"), Busy()]
    life = EngineLife(iter(engines).__next__)
    with pytest.raises(EngineLoadFailed, match="no room"):
        life.load(FOLDER, quiet)
    assert (life.state, life.engine, engines[0].unloads) == (EngineState.ABSENT, None, 1)
    assert life.load(FOLDER, quiet) is engines[1]


def test_two_engines_at_once_are_refused() -> None:
    life = EngineLife(Busy)
    life.load(FOLDER, quiet)
    with pytest.raises(RuntimeError, match="ready already"):
        life.load(FOLDER, quiet)


def test_draining_waits_for_what_runs_and_no_longer_than_allowed() -> None:
    engine = Busy()
    engine.running = 1
    life = EngineLife(lambda: engine)
    life.load(FOLDER, quiet)
    assert not life.drain(within_s=0)
    engine.asked.clear()
    with ThreadPoolExecutor(1) as threads:
        drained = threads.submit(life.drain, PATIENCE_S)
        assert engine.asked.wait(PATIENCE_S)
        assert not drained.done()
        engine.running = 0
        assert drained.result(PATIENCE_S)


def test_an_engine_that_nobody_wants_any_more_is_unloaded_once_it_is_loaded() -> None:
    engine = Busy(gates=("weights",))
    begun = threading.Event()
    life = EngineLife(lambda: engine)
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(life.load, FOLDER, lambda phase, done: begun.set())
        assert begun.wait(PATIENCE_S)
        assert life.state is EngineState.LOADING
        life.unload()
        engine.open_all()
        with pytest.raises(EngineLoadFailed, match="unloaded before it was ready"):
            load.result(PATIENCE_S)
    assert (life.state, life.engine, engine.unloads) == (EngineState.ABSENT, None, 1)


def test_nothing_refers_to_an_engine_that_is_gone() -> None:
    life = EngineLife(Busy)
    gone = weakref.ref(life.load(FOLDER, quiet))
    assert gone() is not None
    life.unload()
    assert gone() is None
