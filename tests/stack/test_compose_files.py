"""The compose files mean what the documents promise, in both launch forms."""

from pathlib import Path
from typing import Any

import pytest

from support.compose_stack import ComposeFailed, ComposeStack

pytestmark = pytest.mark.stack

STANDARD = ("docker-compose.yml",)
CLUSTER = ("docker-compose.gpu-cluster.yml",)
OVERLAY = STANDARD + CLUSTER
SECRETS = {
    "MINIO_ROOT_USER": "root",
    "MINIO_ROOT_PASSWORD": "root-password",
    "MINIO_SVC_USER": "service",
    "MINIO_SVC_PASSWORD": "service-password",
}


def config(tmp_path: Path, files: tuple[str, ...], **settings: str) -> dict[str, Any]:
    services = ComposeStack(files, {**SECRETS, **settings}, tmp_path / "env").config()["services"]
    assert isinstance(services, dict)
    return services


def published(services: dict[str, Any]) -> dict[str, str]:
    return {p["published"]: name for name, s in services.items() for p in s.get("ports", [])}


def gpu_of(service: dict[str, Any]) -> list[str]:
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    return [gpu for device in devices for gpu in device["device_ids"]]


def test_standard_mode_starts_two_workers_unless_more_are_chosen(tmp_path: Path) -> None:
    few = config(tmp_path, STANDARD)
    everything = config(tmp_path, STANDARD, COMPOSE_PROFILES="all")
    assert {"llm", "embedding"} <= few.keys()
    assert everything.keys() - few.keys() == {"tinyllama", "multimodal", "transcription"}


def test_standard_mode_publishes_the_ports_of_the_users_table(tmp_path: Path) -> None:
    ports = published(config(tmp_path, STANDARD, COMPOSE_PROFILES="all"))
    assert ports == {
        "8080": "gateway",
        "8090": "registry",
        "8000": "llm",
        "8001": "tinyllama",
        "8002": "embedding",
        "8003": "multimodal",
        "8004": "transcription",
        "9000": "minio",
        "9001": "minio",
    }


@pytest.mark.parametrize("files", [CLUSTER, OVERLAY], ids=["alone", "overlay"])
def test_cluster_mode_pins_one_gpu_to_each_worker(tmp_path: Path, files: tuple[str, ...]) -> None:
    services = config(tmp_path, files, COMPOSE_PROFILES="transcription", EMBEDDING_GPU="GPU-abc")
    assert {name: gpu_of(s) for name, s in services.items() if "deploy" in s} == {
        "llm-primary": ["0"],
        "llm-secondary": ["1"],
        "multimodal": ["2"],
        "embedding": ["GPU-abc"],
        "transcription": ["4"],
    }


@pytest.mark.parametrize("files", [CLUSTER, OVERLAY], ids=["alone", "overlay"])
def test_cluster_mode_has_no_standard_chat_worker_and_keeps_its_names(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    services = config(tmp_path, files)
    assert not {"llm", "tinyllama"} & services.keys()
    assert services["llm-primary"]["networks"]["default"]["aliases"] == ["llm"]
    assert services["llm-secondary"]["networks"]["default"]["aliases"] == ["tinyllama"]
    ports = published(services)
    assert (ports["8000"], ports["8001"]) == ("llm-primary", "llm-secondary")
    assert "multimodal" in services
    assert "transcription" not in services


def test_both_forms_of_cluster_mode_are_the_same_stack(tmp_path: Path) -> None:
    settings = {"COMPOSE_PROFILES": "all"}
    assert config(tmp_path, CLUSTER, **settings) == config(tmp_path, OVERLAY, **settings)


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    settings = {k: v for k, v in SECRETS.items() if k != "MINIO_SVC_PASSWORD"}
    with pytest.raises(ComposeFailed, match="MINIO_SVC_PASSWORD"):
        ComposeStack(STANDARD, settings, tmp_path / "env").config()


def test_our_services_run_without_privileges(tmp_path: Path) -> None:
    services = config(tmp_path, STANDARD, COMPOSE_PROFILES="all")
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert name == "minio" or service["read_only"], name


def test_workers_are_told_no_secret_of_the_store(tmp_path: Path) -> None:
    services = config(tmp_path, STANDARD, COMPOSE_PROFILES="all")
    for name in services.keys() - {"minio", "init-store", "registry"}:
        assert not [k for k in services[name]["environment"] if k.startswith(("MINIO_", "HF_TOKEN"))], name


def test_a_pinned_worker_is_not_told_of_another_gpu(tmp_path: Path) -> None:
    services = config(tmp_path, OVERLAY, COMPOSE_PROFILES="all")
    assert not {n for n, s in services.items() if "NVIDIA_VISIBLE_DEVICES" in s.get("environment", {})}
