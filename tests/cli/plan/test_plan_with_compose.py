"""What a plan writes, as Docker's own compose reads it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.cli_plan import QWEN
from support.cli_registry import COMMIT, FILE, INFO, MANIFEST, Served

pytestmark = pytest.mark.stack

REPOSITORY = Path(__file__).resolve().parents[3]
SAMPLES = REPOSITORY / "samples"
CLUSTER = ("docker-compose.gpu-cluster.yml",)
OVERLAY = ("docker-compose.yml", *CLUSTER)


@pytest.fixture
def planned(served: Served, tmp_path: Path) -> Path:
    """A folder with the platform's compose file, a .env, and what a plan of six models wrote."""
    files = [FILE, {**FILE, "path": "config.json"}]
    manifest = {**MANIFEST, "files": files, "parameters": 494_032_768}
    served.fake.answers["GET", "/models/acme/chat"] = (200, {**INFO, "manifest": manifest})
    served.fake.answers["GET", f"/acme/chat/resolve/{COMMIT}/config.json"] = (200, QWEN)
    gpus = "".join(f"{i}, GPU-{i:04d}, NVIDIA L4, 23034, 4\n" for i in range(6))
    (tmp_path / "gpus.csv").write_text(gpus)
    for name in OVERLAY:
        shutil.copy(REPOSITORY / name, tmp_path)
    subprocess.run(
        [str(REPOSITORY / "scripts/init-env.sh"), "--file", str(tmp_path / ".env")],
        check=True,
        capture_output=True,
    )
    command = ["plan", "acme/chat", "acme/chat", "acme/chat"]
    for name in ("embedding", "vision", "whisper"):
        command += [f"samples/{name}", "--folder", f"samples/{name}={SAMPLES / name}"]
    served.msp(*command, "--gpus", str(tmp_path / "gpus.csv"), "--root", str(tmp_path), "--write", "--force")
    return tmp_path


def config(folder: Path, files: tuple[str, ...]) -> dict[str, Any]:
    named = [part for file in files for part in ("-f", file)]
    done = subprocess.run(
        ["docker", "compose", *named, "config", "--format", "json"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["services"]
    assert isinstance(found, dict)
    return found


def gpu_of(service: dict[str, Any]) -> list[str]:
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    return [gpu for device in devices for gpu in device["device_ids"]]


def test_both_launch_forms_are_valid_and_mean_the_same(planned: Path) -> None:
    assert config(planned, CLUSTER) == config(planned, OVERLAY)


def test_every_worker_has_a_gpu_to_itself_and_no_standard_worker_is_left(planned: Path) -> None:
    services = config(planned, OVERLAY)
    pinned = {name: gpu_of(service) for name, service in services.items() if "deploy" in service}
    assert pinned.keys() == {
        "llm-primary",
        "llm-secondary",
        "llm-3",
        "embedding",
        "multimodal",
        "transcription",
    }
    gpus = [gpu for ids in pinned.values() for gpu in ids]
    assert sorted(gpus) == [f"GPU-{i:04d}" for i in range(6)]
    expected = {name: [services[name]["environment"]["EXPECTED_GPU_UUID"]] for name in pinned}
    assert expected == pinned
    assert not {"llm", "tinyllama"} & services.keys()


def test_every_worker_has_a_port_of_its_own(planned: Path) -> None:
    services = config(planned, CLUSTER)
    ports = [p["published"] for service in services.values() for p in service.get("ports", [])]
    assert len(ports) == len(set(ports))
    (third,) = services["llm-3"]["ports"]
    assert (third["published"], third["target"]) == ("8005", 8005)
    assert services["llm-3"]["environment"]["EXTRA_PORT"] == "8005"
    assert services["llm-3"]["environment"]["MODEL_NAME"] == "acme/chat"
