"""An external server from its start to its end, as the worker brings them about."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import WorkerState
from msp_model_service.engines.external.openai_engine import OpenAiEngine
from msp_model_service.engines.external.server_plan import Pace, ServerPlan
from msp_model_service.engines.external.server_process import ServerProcess
from msp_model_service.engines.lifecycle import EngineLoadFailed
from msp_model_service.weights.no_weights import NoWeights
from support.external_servers import (
    FAST,
    SERVER,
    fake_plan,
    memories,
    say,
    serving,
    until,
    wait_until,
    without_life,
)
from support.servers import free_port, run_server
from support.worker_fakes import Workbench, plan


def loaded(folder: Path, *faults: str, **changes: Any) -> OpenAiEngine:
    engine = OpenAiEngine(fake_plan(folder / "memory", *faults, **changes), ModelType.LLM)
    engine.load(folder, lambda phase, done: None)
    return engine


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_of(folder: Path) -> int:
    return int(memories(folder / "memory")[0]["pid"])


def test_a_server_gets_its_arguments_filled_in_and_none_of_our_secrets(tmp_path: Path) -> None:
    inherited = {
        "PATH": os.environ["PATH"],
        "CLUSTER_TOKEN": "ours",
        "MODEL_NAME": "org/model",
        "AWS_SECRET_ACCESS_KEY": "somebody's",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    made = fake_plan(
        tmp_path / "memory",
        "--name",
        "{model_name}",
        "--ready-when",
        "{model_dir}",
        environment={"API_KEY": "x"},
    )
    engine = OpenAiEngine(made, ModelType.LLM, ours={"MODEL_NAME"}, inherited=inherited)
    try:
        engine.load(tmp_path, lambda phase, done: None)
        [started] = memories(tmp_path / "memory")
        assert started["started"][-3:] == ["org/model", "--ready-when", str(tmp_path)]
        environment = started["environment"]
        assert environment["API_KEY"] == "x"
        assert environment["HF_HUB_OFFLINE"] == "1"
        assert environment["TOKENIZERS_PARALLELISM"] == "false"
        assert environment["CUDA_VISIBLE_DEVICES"] == "1"
        assert not {"CLUSTER_TOKEN", "MODEL_NAME", "AWS_SECRET_ACCESS_KEY"} & environment.keys()
    finally:
        engine.unload()


async def test_a_slow_server_is_waited_for_and_the_worker_says_so(tmp_path: Path) -> None:
    go = tmp_path / "go"
    engine = OpenAiEngine(fake_plan(None, "--ready-when", str(go)), ModelType.LLM)
    async with Workbench(tmp_path, engine=engine, plan=plan(ModelType.LLM, speaks_wire=True)) as bench:
        await until(lambda: bench.worker.status.reason == "server ready")
        assert bench.worker.status.state is WorkerState.LOADING
        go.touch()
        ready = await bench.office.until(lambda lease: lease.state is WorkerState.READY)
        assert ready.capabilities.context_length == 4096
        assert ready.capabilities.engine == "openai"
        assert set(bench.worker.start_phases_s) == {
            "fetch",
            "import",
            "server start",
            "server ready",
            "server models",
        }


def test_a_server_that_exits_at_once_fails_the_load_with_its_code_and_last_words(tmp_path: Path) -> None:
    engine = OpenAiEngine(fake_plan(None, "--exit-at-once"), ModelType.LLM)
    with pytest.raises(EngineLoadFailed) as caught:
        engine.load(tmp_path, lambda phase, done: None)
    engine.unload()
    assert str(caught.value) == (
        "the server exited with code 41; its last lines: ValueError: no kernel image; token hf_***; "
        "check ENGINE_COMMAND"
    )


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    engine = OpenAiEngine(ServerPlan("org/model", ("no-such-server",), pace=FAST), ModelType.LLM)
    with pytest.raises(EngineLoadFailed, match="cannot start no-such-server: No such file or directory"):
        engine.load(tmp_path, lambda phase, done: None)
    engine.unload()


def test_a_server_that_is_not_ready_in_time_fails_the_load_and_is_ended(tmp_path: Path) -> None:
    made = fake_plan(tmp_path / "memory", "--ready-when", "/nonexistent", start_timeout_s=0.5)
    engine = OpenAiEngine(made, ModelType.LLM)
    with pytest.raises(EngineLoadFailed, match=r"not ready within 0\.5 s: GET /health: "):
        engine.load(tmp_path, lambda phase, done: None)
    engine.unload()
    started = memories(tmp_path / "memory")
    assert not started or not alive(started[0]["pid"])


async def read_until_cut(http: httpx.AsyncClient, url: str, body: Any) -> tuple[str, bool]:
    """What arrived, and whether the connection was cut off."""
    got = ""
    try:
        async with http.stream("POST", url, json=body) as answer:
            async for text in answer.aiter_text():
                got += text
    except httpx.RemoteProtocolError:
        return got, True
    return got, False


async def test_a_server_that_dies_in_a_stream_breaks_the_worker_with_its_last_words(tmp_path: Path) -> None:
    async with serving(tmp_path) as worker:
        with run_server(without_life(worker.app)) as url:
            async with httpx.AsyncClient() as http:
                body, cut = await read_until_cut(http, f"{url}/v1/chat/completions", say("die", stream=True))
        assert cut
        assert "Once" in body
        assert "broke off its answer" in body
        assert "[DONE]" not in body
        await worker.bench.broken.wait()
        health = await worker.http.get("/health")
        assert (health.status_code, health.json()["state"]) == (503, "failed")
        assert health.json()["reason"].startswith("failed: the server exited with code 9; its last lines: ")
        assert "CUDA error: out of memory" in health.json()["reason"]
        assert worker.bench.office.leases[-1].state is WorkerState.FAILED
        refused = await worker.http.post("/v1/chat/completions", json=say("hi"))
        assert refused.status_code == 503


async def test_a_server_that_stays_sick_breaks_the_worker(tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    async with serving(tmp_path, "--sick-when", str(sick)) as worker:
        assert worker.engine.problem() is None
        sick.touch()
        await worker.bench.broken.wait()
        reason = worker.bench.office.leases[-1].reason
        assert reason is not None
        assert "GET /health: status 503" in reason


@pytest.mark.parametrize("faults", [(), ("--stubborn",)])
def test_unloading_ends_the_server_also_one_that_ignores_sigterm(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    engine = loaded(tmp_path, *faults, pace=Pace(look_every_s=0.05, stop_within_s=0.5 if faults else 5))
    pid = pid_of(tmp_path)
    assert alive(pid)
    assert os.getpgid(pid) != os.getpgrp()
    engine.unload()
    assert not alive(pid)
    assert engine.problem() is None


def test_helpers_of_a_server_end_with_it(tmp_path: Path) -> None:
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.exit(5)"
    lines = tmp_path / "lines"
    command = ["sh", "-c", f'exec "{sys.executable}" -c "{script}" > "{lines}"']
    process = ServerProcess(command, os.environ, 3)
    wait_until(process.ended)
    assert process.ended() == "the server exited with code 5 without a word"
    wait_until(lambda: not alive(int(lines.read_text())))
    process.stop()


def test_the_watchs_own_questions_are_not_the_servers_last_words(tmp_path: Path) -> None:
    asked = "for i in 1 2 3 4 5 6 7 8 9; do echo 'INFO: \"GET /health HTTP/1.1\" 200'; done"
    script = f"echo 'the GPU is gone'; {asked}; exit 1"
    process = ServerProcess(["sh", "-c", script], os.environ, 3, quiet=["GET /health "])
    wait_until(process.ended)
    assert process.ended() == "the server exited with code 1; its last lines: the GPU is gone"
    process.stop()


HOLDING = """
import os, sys
from pathlib import Path
from msp_common.contracts.model_type import ModelType
from msp_model_service.engines.external.openai_engine import OpenAiEngine
sys.path.insert(0, sys.argv[2])
from support.external_servers import fake_plan
engine = OpenAiEngine(fake_plan(Path(sys.argv[1])), ModelType.LLM)
engine.load(Path("/"), lambda phase, done: None)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_worker_that_is_killed_leaves_no_server_behind(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    worker = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(memory), str(SERVER.parents[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        pid = pid_of(tmp_path)
        assert alive(pid)
        worker.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(pid))


async def test_a_server_that_runs_already_is_used_without_any_weights(tmp_path: Path) -> None:
    port = free_port()
    server = await asyncio.create_subprocess_exec(sys.executable, str(SERVER), "--port", str(port))
    try:
        made = ServerPlan(
            "org/model", url=f"http://127.0.0.1:{port}", pace=FAST, features=frozenset({"tools"})
        )
        engine = OpenAiEngine(made, ModelType.LLM)
        bench = Workbench(
            tmp_path, engine=engine, weights=NoWeights(), plan=plan(ModelType.LLM, speaks_wire=True)
        )
        async with bench:
            ready = await bench.office.until(lambda lease: lease.state is WorkerState.READY)
            assert ready.model.commit is None
            assert ready.capabilities.tools
            assert not ready.capabilities.json_schema
            server.kill()
            await bench.broken.wait()
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def test_the_servers_own_queue_and_cache_are_told(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text(
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{model_name="a",engine="0"} 3.0\n'
        'vllm:num_requests_waiting{model_name="a",engine="0"} 0.0\n'
        'vllm:kv_cache_usage_perc{model_name="a"} 0.25\n'
    )
    async with serving(tmp_path, "--metrics", str(page)) as worker:
        await until(lambda: worker.engine.figures().kv_used == 0.25)
        shown = (await worker.http.get("/metrics")).text
        assert 'msp_worker_kv_used_ratio{model="org/model"} 0.25' in shown
        assert 'msp_worker_batch_rows{model="org/model"} 3.0' in shown
