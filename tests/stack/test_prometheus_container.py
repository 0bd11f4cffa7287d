"""The shipped container of Prometheus: as nobody, on a read-only root, with the shipped files."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from support.compose_stack import ComposeStack
from support.platform_processes import REPOSITORY, free_ports

pytestmark = pytest.mark.stack

PROJECT = "msp-watched"
FILES = ("docker-compose.yml", "docker-compose.monitoring.yml", "docker-compose.offline.yml")
SETTINGS = {
    "COMPOSE_PROJECT_NAME": PROJECT,
    "GRAFANA_ADMIN_PASSWORD": "unused",
    "MINIO_ROOT_PASSWORD": "unused-password",
    "MINIO_ROOT_USER": "unused-user",
    "MINIO_SVC_PASSWORD": "unused-password",
    "MINIO_SVC_USER": "unused-user",
    "MSP_PULL_POLICY": "never",
}


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """Its URL, once its own health check is content. What it would scrape is not there."""
    (port,) = free_ports(1)
    other_port = tmp_path / "port.yml"
    other_port.write_text(f"services: {{prometheus: {{ports: !override ['127.0.0.1:{port}:9090']}}}}\n")
    stack = ComposeStack((*FILES, str(other_port)), SETTINGS, tmp_path / "env")
    try:
        stack.run("up", "-d", "--no-deps", "--wait", "prometheus", timeout_s=180)
        yield f"http://127.0.0.1:{port}"
    finally:
        stack.run("down", "-v")
        assert stack.leftovers(PROJECT) == []


def test_it_is_healthy_and_works_with_the_shipped_rules(prometheus: str) -> None:
    shipped = yaml.safe_load((REPOSITORY / "monitoring/alerts.yml").read_text())["groups"]
    told = httpx.get(f"{prometheus}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    assert {g["name"]: len(g["rules"]) for g in told} == {g["name"]: len(g["rules"]) for g in shipped}
    config = httpx.get(f"{prometheus}/api/v1/status/config", trust_env=False).json()["data"]["yaml"]
    assert "http://service-registry:8081/targets" in config
