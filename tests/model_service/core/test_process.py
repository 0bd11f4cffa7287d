"""A worker as an operator meets it: a process, told by its environment, ended by a signal."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from msp_common.contracts.jobs import JobState
from support.servers import free_port, run_server
from support.worker_jobs import FakeDownloads, job
from support.worker_registries import FakeModelRegistry, FakeServiceRegistry

PATIENCE_S = 60


@contextmanager
def process(log: Path, *program: str, **told: str) -> Iterator[subprocess.Popen[bytes]]:
    inherited = {
        k: os.environ[k] for k in ("PATH", "HOME", "PYTHONPATH", "OMP_NUM_THREADS") if k in os.environ
    }
    with log.open("wb") as stderr:
        worker = subprocess.Popen(
            [sys.executable, *(program or ("-m", "msp_model_service"))],
            env={**inherited, **told},
            stderr=stderr,
        )
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def told(cache: Path, registry: str, service_registry: str, **more: str) -> Mapping[str, str]:
    return {
        "MODEL_NAME": "org/model",
        "MODEL_TYPE": "llm",
        "ENGINE": "fake",
        "REGISTRY_URL": registry,
        "SERVICE_REGISTRY_URL": service_registry,
        "MODEL_CACHE_DIR": str(cache),
        "WORKER_HOST": "127.0.0.1",
        "WORKER_ID": "llm-1",
        "CLUSTER_TOKEN": "secret",
        **more,
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_starts_registers_serves_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    models, services = FakeModelRegistry({"config.json": b"{}"}), FakeServiceRegistry()
    models.hold.clear()
    port, extra = free_port(), free_port()
    with run_server(models.app) as registry, run_server(services.app) as service_registry:
        environment = told(
            tmp_path / "cache", registry, service_registry, WORKER_PORT=str(port), EXTRA_PORT=str(extra)
        )
        log = tmp_path / "log"
        with process(log, **environment) as worker:
            services.wait_for("fetching")
            health = httpx.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S, trust_env=False)
            assert (health.status_code, health.json()["state"]) == (503, "fetching")

            models.hold.set()
            services.wait_for("ready")
            for either in (port, extra):
                answer = httpx.post(
                    f"http://127.0.0.1:{either}/v1/chat/completions",
                    json={"messages": [{"role": "user", "content": "hello"}]},
                    timeout=PATIENCE_S,
                    trust_env=False,
                )
                assert answer.status_code == 200, answer.text
                assert answer.json()["choices"][0]["message"]["content"] == "You said: hello"

            worker.send_signal(number)
            assert worker.wait(PATIENCE_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        assert services.states()[-3:] == ["ready", "draining", "gone"]
        assert services.tokens == {"Bearer secret"}
        assert {call[1] for call in services.calls} == {"llm-1"}


@pytest.mark.parametrize("engine", ["fake", "generate"])
def test_a_worker_ends_at_once_while_it_waits_for_its_model(tmp_path: Path, engine: str) -> None:
    models, services = FakeModelRegistry({}), FakeServiceRegistry()
    models.absent = True
    with run_server(models.app) as registry, run_server(services.app) as service_registry:
        port = str(free_port())
        environment = told(tmp_path / "cache", registry, service_registry, WORKER_PORT=port, ENGINE=engine)
        with process(tmp_path / "log", **environment) as worker:
            services.wait_for("fetching")
            worker.terminate()
            assert worker.wait(PATIENCE_S) == 0
        assert services.states()[-2:] == ["draining", "gone"]


def test_a_worker_asks_for_the_model_that_the_registry_lacks_and_shows_the_download_as_its_own(
    tmp_path: Path,
) -> None:
    models, services = FakeModelRegistry({"config.json": b"{}"}), FakeServiceRegistry()
    models.absent = True
    downloads = FakeDownloads(models.app)
    downloads.story = [job(JobState.DOWNLOADING, 1_000_000_000, 4_000_000_000)]
    with run_server(models.app) as registry, run_server(services.app) as service_registry:
        environment = told(
            tmp_path / "cache",
            registry,
            service_registry,
            WORKER_PORT=str(free_port()),
            AUTO_DOWNLOAD="true",
            CLUSTER_TOKEN="opensesame",
        )
        with process(tmp_path / "log", **environment):
            services.wait_for_lease(
                lambda lease: (
                    (lease["state"], lease["progress"], lease["reason"])
                    == ("fetching", 0.25, "the registry downloads org/model: 1.0 of 4.0 GB")
                )
            )
            models.absent = False
            downloads.story = [job(JobState.SUCCEEDED)]
            services.wait_for("ready")
    assert (len(downloads.asked), downloads.authorizations) == (1, ["Bearer opensesame"])
    assert "opensesame" not in (tmp_path / "log").read_text()


BREAKING = """
from msp_model_service.__main__ import main
from msp_model_service.engines.fake_chat import FakeChatEngine

class BreakingEngine(FakeChatEngine):
    def problem(self):
        return "CUDA error: device-side assert triggered"

from msp_model_service.engines import fake_chat
fake_chat.FakeChatEngine = BreakingEngine
main()
"""


def test_an_engine_that_breaks_ends_the_process_with_code_3_and_leaves_the_model_known(
    tmp_path: Path,
) -> None:
    models, services = FakeModelRegistry({"config.json": b"{}"}), FakeServiceRegistry()
    with run_server(models.app) as registry, run_server(services.app) as service_registry:
        environment = told(tmp_path / "cache", registry, service_registry, WORKER_PORT=str(free_port()))
        with process(tmp_path / "log", "-c", BREAKING, **environment) as worker:
            assert worker.wait(PATIENCE_S) == 3, (tmp_path / "log").read_text()
    assert services.states()[-1] == "failed"
    assert services.calls[-1][2]["reason"] == "CUDA error: device-side assert triggered"


SLOW = """
import asyncio, sys
from pathlib import Path
from msp_model_service.__main__ import main
from msp_model_service.engines.fake_chat import FakeChatEngine

class SlowEngine(FakeChatEngine):
    def __init__(self, *given, **more):
        async def before_token(index):
            Path(sys.argv[1]).touch()
            while index == 2 and not Path(sys.argv[2]).exists():
                await asyncio.sleep(0.01)
        super().__init__(*given, before_token=before_token, **more)

from msp_model_service.engines import fake_chat
fake_chat.FakeChatEngine = SlowEngine
main()
"""


def test_a_worker_that_ends_tells_what_its_last_request_used(tmp_path: Path) -> None:
    models, services = FakeModelRegistry({"config.json": b"{}"}), FakeServiceRegistry()
    writes, go_on, port = tmp_path / "writes", tmp_path / "go-on", free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        run_server(models.app) as registry,
        run_server(services.app) as service_registry,
        ThreadPoolExecutor() as threads,
    ):
        environment = told(tmp_path / "cache", registry, service_registry, WORKER_PORT=str(port))
        script = ("-c", SLOW, str(writes), str(go_on))
        with process(tmp_path / "log", *script, **environment) as worker:
            services.wait_for("ready")
            body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
            headers = {"x-request-id": "the-last"}
            answer = threads.submit(
                httpx.post, f"{url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE_S
            )
            bearer = {"Authorization": "Bearer secret"}
            usage = threads.submit(
                httpx.get, f"{url}/usage?wait_s=60", headers=bearer, timeout=PATIENCE_S + 10
            )
            until(writes.exists)
            worker.terminate()
            services.wait_for("draining")
            go_on.touch()
            assert answer.result().status_code == 200
            [one] = usage.result().json()["requests"]
            assert (one["request_id"], one["completion_tokens"], one["complete"]) == ("the-last", 5, True)
            assert worker.wait(PATIENCE_S) == 0


def test_wrong_settings_end_it_with_code_2_and_the_variables_name(tmp_path: Path) -> None:
    with process(tmp_path / "log", MODEL_NAME="org/model", MODEL_TYP="llm") as worker:
        assert worker.wait(PATIENCE_S) == 2
    said = (tmp_path / "log").read_text()
    assert "MODEL_TYP: no such setting; did you mean MODEL_TYPE?" in said
    assert "MODEL_TYPE: required, but not set" in said


def test_a_worker_imports_nothing_of_other_types_and_no_engine_before_it_serves(tmp_path: Path) -> None:
    script = """
import json, sys
from msp_model_service.__main__ import build
from msp_model_service.settings import WorkerSettings
build(WorkerSettings.load({"MODEL_NAME": "org/model", "MODEL_TYPE": "llm"}), 1, lambda: None)
heavy = {"torch", "transformers", "sentence_transformers", "av", "pynvml"}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=PATIENCE_S)
    assert json.loads(done.stdout) == [], done.stderr
