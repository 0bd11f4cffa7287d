"""A worker with an external server as an operator runs it: processes, told by the environment."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from support.external_servers import SERVER, memories, say
from support.servers import free_port, run_server
from support.worker_registries import FakeModelRegistry, FakeServiceRegistry

REPOSITORY = Path(__file__).resolve().parents[3]
PATIENCE_S = 120


@contextmanager
def worker(
    folder: Path, models: FakeModelRegistry, services: FakeServiceRegistry, **told: str
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The process and its address."""
    port = free_port()
    kept = {k: os.environ[k] for k in ("PATH", "HOME", "PYTHONPATH", "OMP_NUM_THREADS") if k in os.environ}
    with (
        run_server(models.app) as registry,
        run_server(services.app) as service_registry,
        (folder / "log").open("wb") as log,
    ):
        environment = {
            "MODEL_NAME": "org/model",
            "MODEL_TYPE": "llm",
            "ENGINE": "openai",
            "REGISTRY_URL": registry,
            "SERVICE_REGISTRY_URL": service_registry,
            "MODEL_CACHE_DIR": str(folder / "cache"),
            "WORKER_HOST": "127.0.0.1",
            "WORKER_PORT": str(port),
            "CLUSTER_TOKEN": "opensesame",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "msp_model_service"], env={**kept, **environment, **told}, stderr=log
        )
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()


def test_a_server_that_dies_ends_the_worker_with_code_3_and_never_saw_the_clusters_token(
    tmp_path: Path,
) -> None:
    models, services = FakeModelRegistry({"config.json": b"{}"}), FakeServiceRegistry()
    memory = tmp_path / "memory"
    command = json.dumps([sys.executable, str(SERVER), "--port", "{port}", "--memory", str(memory)])
    told = {"ENGINE_COMMAND": command, "ENGINE_ENVIRONMENT": "EXTRA='a b'", "LOG_FORMAT": "json"}
    with worker(tmp_path, models, services, **told) as (process, url):
        services.wait_for("ready")
        answer = httpx.post(f"{url}/v1/chat/completions", json=say("hi"), timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{url}/v1/chat/completions", json=say("die", stream=True), timeout=PATIENCE_S)
        assert process.wait(PATIENCE_S) == 3
    assert services.states()[-1] == "failed"
    assert "CUDA error: out of memory" in services.calls[-1][2]["reason"]
    environment = memories(memory)[0]["environment"]
    assert environment["EXTRA"] == "a b"
    assert "opensesame" not in environment.values()
    assert not {"CLUSTER_TOKEN", "ENGINE_COMMAND", "MODEL_NAME"} & environment.keys()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert any(line["message"] == "server: CUDA error: out of memory" for line in lines)
    first, second = (line for line in lines if line["message"] == "request")
    assert (first["status"], first["complete"], first["completion_tokens"]) == (200, True, 1)
    assert first["request_id"] == answer.headers["x-request-id"]
    assert (second["status"], second["complete"], second["stream"]) == (200, False, True)


@pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None,
    reason="needs transformers[serving] (accelerate is missing)",
)
def test_transformers_serve_is_such_a_server(tmp_path: Path) -> None:
    """It lists no models, calls ours by its path, never says `[DONE]`, and answers its own errors in text."""
    folder = REPOSITORY / "samples/chat"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    models, services = FakeModelRegistry(files), FakeServiceRegistry()
    command = [
        *(str(Path(sys.executable).with_name("transformers")), "serve", "{model_dir}"),
        *("--device", "cpu", "--host", "{host}", "--port", "{port}"),
    ]
    told = {"ENGINE_COMMAND": json.dumps(command), "ENGINE_MODEL_NAME": "{model_dir}"}
    with worker(tmp_path, models, services, **told) as (process, url):
        services.wait_for("ready")
        with openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0, timeout=PATIENCE_S) as client:
            whole = client.chat.completions.create(**say("hello"), max_tokens=8, temperature=0)
            assert whole.model == "org/model"
            assert whole.choices[0].message.content
            assert whole.usage is not None
            streamed = list(
                client.chat.completions.create(**say("hello"), max_tokens=8, temperature=0, stream=True)
            )
            assert {chunk.model for chunk in streamed} == {"org/model"}
            text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
            assert text == whole.choices[0].message.content
            with pytest.raises(openai.InternalServerError, match="server failed with status 500"):
                client.chat.completions.create(model="org/model", messages=[])
        raw = httpx.post(
            f"{url}/v1/chat/completions", json=say("hello", stream=True, max_tokens=2), timeout=PATIENCE_S
        )
        assert raw.text.endswith("data: [DONE]\n\n")
        assert str(tmp_path) not in raw.text
        metrics = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
        assert 'msp_worker_start_phase_seconds{phase="server ready"}' in metrics
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
