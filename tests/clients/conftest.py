"""Workers of the sample models: the real application and engines, each on a port of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import ServedModel, WorkerState
from msp_model_service.app import create_app
from msp_model_service.engines.catalogue import engine_maker
from msp_model_service.engines.lifecycle import EngineOptions
from support.servers import run_server
from support.stock_clients import ROOT, Places, of_samples
from support.worker_fakes import Workbench, plan

PATIENCE_S = 120
TYPES = {"chat": ModelType.LLM, "embedding": ModelType.EMBEDDING, "whisper": ModelType.TRANSCRIPTION}


@contextmanager
def worker(name: str) -> Iterator[str]:
    model = ServedModel(id=f"samples/{name}", type=TYPES[name])
    folder = ROOT / "samples" / name
    bench = Workbench(
        folder,
        engine=engine_maker("auto", model.type, EngineOptions(device="cpu", threads=1))(),
        plan=plan(model.type, model=model),
    )
    app = create_app(bench.worker, max_body_bytes=32 * 2**20, gpus=bench.monitor.latest)
    with run_server(app) as url:
        assert bench.office.settled.wait(PATIENCE_S)
        assert bench.worker.status.state is WorkerState.READY, bench.worker.status.sentence()
        yield url


@pytest.fixture(scope="session")
def workers() -> Iterator[Places]:
    """A worker for each of the script's models."""
    with ExitStack() as stack:
        chat, embedding, whisper = (stack.enter_context(worker(name)) for name in TYPES)
        yield of_samples(chat, embedding, whisper)
