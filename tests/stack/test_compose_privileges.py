"""Whatever compose files are used together: least privilege, bounded resources, and networks as designed."""

from typing import Any

import pytest

from support.compose_forms import (
    ADDITIONS,
    EVERY_PROFILE,
    FORMS,
    INTERFACES,
    OFFLINE,
    SECRETS,
    WORKERS,
    published,
    stack_config,
)
from support.compose_stack import REPOSITORY

pytestmark = pytest.mark.stack

PUBLIC = {"8080", "3000", "3002", "3003"}
"""Ports on all addresses: the gateway, and interfaces for people."""

INTERNAL = {"control", "storage", "chats", "monitoring"}
ONE_SHOT = {"init-volumes", "init-store"}
SETTINGS = {**SECRETS, "COMPOSE_PROFILES": EVERY_PROFILE, "MSP_PULL_POLICY": "never"}


@pytest.fixture(scope="module", params=[(f, a) for f in FORMS for a in ADDITIONS], ids="-".join)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    form, addition = request.param
    files = (*FORMS[form], *ADDITIONS[addition])
    whole = stack_config(tmp_path_factory.mktemp("stack"), files, SETTINGS)
    whole["offline"] = OFFLINE in files
    return whole


def test_all_files_are_one_project(stack: dict[str, Any]) -> None:
    assert stack["name"] == "model-service-platform"
    assert {v["name"] for v in stack["volumes"].values()} <= {
        f"model-service-platform_{name}"
        for name in (
            "gateway-data",
            "grafana-data",
            "minio-data",
            "model-cache",
            "mongo-data",
            "open-webui-data",
            "prometheus-data",
        )
    }


def test_no_service_has_privileges(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert not [v for v in service.get("volumes", []) if "docker.sock" in str(v["source"])], name
        # Of all services one changes the owner of a volume, and for that it has no network.
        if name == "init-volumes":
            assert service["cap_add"] == ["CHOWN", "DAC_READ_SEARCH"]
            assert service["network_mode"] == "none"
        else:
            assert "cap_add" not in service, name


def test_root_file_systems_are_read_only_but_those_of_chat_interfaces(stack: dict[str, Any]) -> None:
    writable = {name for name, s in stack["services"].items() if not s.get("read_only")}
    assert writable == INTERFACES & stack["services"].keys()


def test_nothing_runs_as_root_but_what_says_so(stack: dict[str, Any]) -> None:
    users = {name: s.get("user") for name, s in stack["services"].items()}
    roots = {name for name, user in users.items() if str(user).startswith("0")}
    assert roots == {"init-volumes"}
    # Our images say it themselves; Open WebUI's own user is root.
    unsaid = {name for name, user in users.items() if user is None}
    ours = WORKERS | {"init-store", "registry", "service-registry", "gateway"}
    assert unsaid - ours <= {"open-webui"}
    assert "USER msp" in (REPOSITORY / "Dockerfile").read_text()


def test_resources_and_logs_are_bounded(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


def test_what_stays_up_is_started_again_and_says_whether_it_is_healthy(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        if name in ONE_SHOT:
            assert service["restart"] == "no", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert "healthcheck" in service or name == "open-webui", name


def test_every_image_has_a_tag_and_no_digest(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        image, _, tag = service["image"].rpartition(":")
        assert image, f"{name}: {service['image']}"
        # After the last colon, a slash would mean that it is a registry's port.
        assert "/" not in tag, f"{name}: {service['image']}"
        assert tag not in ("", "latest", "main"), name
        assert "@" not in service["image"], name


def test_nothing_is_said_twice(stack: dict[str, Any]) -> None:
    ports = [p["published"] for s in stack["services"].values() for p in s.get("ports", [])]
    assert sorted(ports) == sorted(set(ports))
    for name, service in stack["services"].items():
        targets = [v["target"] for v in service.get("volumes", [])]
        lists = [targets, service.get("tmpfs", []), service.get("profiles", []), service["cap_drop"]]
        for values in lists:
            assert len(values) == len(set(values)), f"{name}: {values}"


def test_only_the_gateway_and_interfaces_for_people_are_reached_from_other_hosts(
    stack: dict[str, Any],
) -> None:
    open_to_all = {
        p["published"]
        for s in stack["services"].values()
        for p in s.get("ports", [])
        if p.get("host_ip") != "127.0.0.1"
    }
    ports = published(stack["services"])
    assert open_to_all == PUBLIC & ports.keys()
    assert "8081" not in ports
    expected = {"3001": "grafana", "9090": "prometheus", "3000": "chatui", "3003": "chatui-current"}
    for port, name in (expected | {"3002": "open-webui"}).items():
        assert ports.get(port) == (name if name in stack["services"] else None)


def test_storage_and_control_have_no_way_out(stack: dict[str, Any]) -> None:
    networks = stack["networks"]
    assert {name for name, n in networks.items() if n.get("internal")} == INTERNAL & networks.keys()
    assert networks.keys() - INTERNAL == {"default", "operators"}
    for name in ("default", "operators"):
        options = networks[name].get("driver_opts", {})
        masquerade = options.get("com.docker.network.bridge.enable_ip_masquerade")
        assert masquerade == ("false" if stack["offline"] else None)


def test_what_publishes_a_port_is_on_a_network_that_can(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        if service.get("ports"):
            assert service["networks"].keys() - INTERNAL, name


def test_services_meet_only_whom_they_need(stack: dict[str, Any]) -> None:
    on: dict[str, set[str]] = {name: set() for name in stack["networks"]}
    for name, service in stack["services"].items():
        for network in service.get("networks", {}):
            on[network].add(name)
    # Nobody but the registry, its store and the job that prepares it.
    assert on["storage"] == {"minio", "init-store", "registry"}
    assert not on["operators"] & (WORKERS | INTERFACES | {"gateway", "mongo", "prometheus"})
    assert not on["control"] & (INTERFACES | {"mongo", "grafana", "minio"})
    assert "minio" not in on["default"]
    assert on.get("chats", set()) <= {"mongo", "chatui", "chatui-current"}
    assert on.get("monitoring", set()) <= {"prometheus", "grafana"}
    # In cluster mode no interface, and no service that was only added, can register a worker.
    if "llm-primary" in stack["services"]:
        assert not on["default"] & {"service-registry", "registry"}


def test_secrets_reach_only_who_needs_them(stack: dict[str, Any]) -> None:
    holders = {
        "MINIO_ROOT_PASSWORD": {"minio", "init-store"},
        "MINIO_SVC_PASSWORD": {"init-store", "registry"},
        "REGISTRY_ADMIN_TOKEN": {"registry"},
        "GATEWAY_ADMIN_TOKEN": {"gateway"},
        "CLUSTER_TOKEN": WORKERS | {"gateway", "registry", "service-registry"},
        "GRAFANA_ADMIN_PASSWORD": {"grafana"},
    }
    for secret, allowed in holders.items():
        told = {
            n for n, s in stack["services"].items() if SECRETS[secret] in s.get("environment", {}).values()
        }
        assert told <= allowed, secret
        assert told or secret == "GRAFANA_ADMIN_PASSWORD"


def test_nothing_is_pulled_where_the_operator_says_never(stack: dict[str, Any]) -> None:
    assert {s["pull_policy"] for s in stack["services"].values()} == {"never"}
