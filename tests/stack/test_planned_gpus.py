"""What `msp plan` writes for hosts with 1, 4 and 8 GPUs, as compose reads it in both launch forms."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.cli_plan import QWEN
from support.cli_registry import COMMIT, FILE, INFO, MANIFEST, served_registry
from support.compose_forms import CLUSTER, OVERLAY, gpus_of, published
from support.compose_stack import REPOSITORY, ComposeStack

pytestmark = pytest.mark.stack

OTHER_TYPES = ("embedding", "vision", "whisper")


@dataclass(frozen=True)
class Planned:
    """A host of so many GPUs, and what compose makes of its files."""

    gpus: list[str]
    alone: dict[str, Any]
    overlay: dict[str, Any]


def models_for(gpus: int) -> list[str]:
    """One model for each GPU: chat models, and from four GPUs on one of each other type."""
    others = OTHER_TYPES if gpus >= 4 else ()
    folders = [part for name in others for part in (f"samples/{name}", "--folder", _folder(name))]
    return ["acme/chat"] * (gpus - len(others)) + folders


def _folder(name: str) -> str:
    return f"samples/{name}={REPOSITORY / 'samples' / name}"


@pytest.fixture(scope="module", params=[1, 4, 8])
def planned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    count: int = request.param
    place = tmp_path_factory.mktemp(f"gpus-{count}")
    files = [FILE, {**FILE, "path": "config.json"}]
    manifest = {**MANIFEST, "files": files, "parameters": 494_032_768}
    lines = [f"{i}, GPU-{i:04d}, NVIDIA L4, 23034, 4\n" for i in range(count)]
    (place / "gpus.csv").write_text("".join(lines))
    for name in OVERLAY:
        shutil.copy(REPOSITORY / name, place)
    secrets = [str(REPOSITORY / "scripts/init-env.sh"), "--file", str(place / ".env")]
    subprocess.run(secrets, check=True, capture_output=True)
    with served_registry() as served:
        served.fake.answers["GET", "/models/acme/chat"] = (200, {**INFO, "manifest": manifest})
        served.fake.answers["GET", f"/acme/chat/resolve/{COMMIT}/config.json"] = (200, QWEN)
        options = ["--gpus", str(place / "gpus.csv"), "--root", str(place), "--write", "--force"]
        served.msp("plan", *models_for(count), *options)
    alone, overlay = (_config(place, files) for files in (CLUSTER, OVERLAY))
    return Planned([f"GPU-{i:04d}" for i in range(count)], alone, overlay)


def _config(place: Path, files: tuple[str, ...]) -> dict[str, Any]:
    settings = dict(
        line.split("=", 1) for line in (place / ".env").read_text().splitlines() if _is_setting(line)
    )
    return ComposeStack(tuple(str(place / file) for file in files), settings, place / "env").config()


def _is_setting(line: str) -> bool:
    return "=" in line and not line.startswith("#")


def test_both_launch_forms_mean_the_same(planned: Planned) -> None:
    for part in ("services", "networks", "volumes"):
        assert planned.alone[part] == planned.overlay[part]


def test_every_gpu_has_one_worker(planned: Planned) -> None:
    pinned = {name: gpus_of(s) for name, s in planned.alone["services"].items() if "deploy" in s}
    assert sorted(gpu for gpus in pinned.values() for gpu in gpus) == planned.gpus
    assert all(len(gpus) == 1 for gpus in pinned.values())
    assert pinned.keys() >= {"llm-primary"}


def test_nothing_runs_beside_the_planned_workers(planned: Planned) -> None:
    services = planned.overlay["services"]
    workers = {name for name, s in services.items() if "MODEL_NAME" in s.get("environment", {})}
    assert len(workers) == len(planned.gpus)
    assert not {"llm", "tinyllama"} & workers


def test_ports_are_told_apart(planned: Planned) -> None:
    services = planned.alone["services"]
    ports = [p["published"] for s in services.values() for p in s.get("ports", [])]
    assert len(ports) == len(set(ports))
    assert published(services)["8000"] == "llm-primary"
