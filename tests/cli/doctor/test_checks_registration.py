"""What doctor finds of who may register a worker."""

from typing import Any

import pytest

from msp_cli.doctor.findings import Code, Level
from msp_cli.doctor.site import Ran, Unknown
from support.cli_doctor import FakeSite, container

SERVICE = "service-registry"
NETWORKS = ("msp_default", "msp_control")


@pytest.fixture
def site() -> FakeSite:
    """A platform whose workers register without a token."""
    site = FakeSite()
    site.standard["services"][SERVICE]["environment"]["CLUSTER_TOKEN"] = ""
    site.containers.append(container(SERVICE, networks=NETWORKS))
    return site


def level_and_text(site: FakeSite) -> tuple[Level, str]:
    found = site.found(Code.OPEN_REGISTRATION)
    return found.level, f"{found.what} {found.remedy}"


def test_without_a_token_the_stacks_own_networks_are_well(site: FakeSite) -> None:
    assert level_and_text(site)[0] is Level.OK


def test_a_published_port_lets_strangers_register(site: FakeSite) -> None:
    site.containers[-1] = container(SERVICE, networks=NETWORKS, ports=[8081])
    level, text = level_and_text(site)
    assert level is Level.WARNING
    assert "its port is published" in text
    assert "REGISTRATION_NEEDS_TOKEN=yes in .env" in text


def test_a_port_that_is_to_be_published_is_told_of_before_the_start(site: FakeSite) -> None:
    site.containers = []
    site.standard["services"][SERVICE]["ports"] = [
        {"host_ip": "10.0.0.1", "published": "8081", "target": 8081}
    ]
    level, text = level_and_text(site)
    assert (level, "at 10.0.0.1" in text) == (Level.WARNING, True)


def test_another_stack_on_one_of_its_networks_is_named(site: FakeSite) -> None:
    site.containers.append(container("notes", project="other", networks=["msp_default", "other_default"]))
    level, text = level_and_text(site)
    assert level is Level.WARNING
    assert "by notes, which share the network msp_default" in text


@pytest.mark.parametrize(
    "elsewhere",
    [
        container("notes", project="other", networks=["other_default"]),
        container("notes", project="other", networks=["msp_default"], status="exited"),
        container("chatui", networks=["msp_default"]),
    ],
    ids=["another network", "not running", "the same stack"],
)
def test_other_containers_do_not_matter(site: FakeSite, elsewhere: dict[str, Any]) -> None:
    site.containers.append(elsewhere)
    assert level_and_text(site)[0] is Level.OK


def test_with_a_token_any_network_will_do(site: FakeSite) -> None:
    env = {"CLUSTER_TOKEN": "s3cret-cluster-token"}
    site.containers[-1] = container(SERVICE, networks=NETWORKS, ports=[8081], env=env)
    assert level_and_text(site)[0] is Level.OK


def test_a_token_that_is_asked_for_and_empty_is_a_problem(site: FakeSite) -> None:
    site.env(REGISTRATION_NEEDS_TOKEN="yes")
    level, text = level_and_text(site)
    assert level is Level.PROBLEM
    assert "CLUSTER_TOKEN is empty" in text


@pytest.mark.parametrize(("address", "level"), [("127.0.0.1", Level.OK), ("0.0.0.0", Level.WARNING)])
def test_of_local_processes_it_is_known_where_they_listen(site: FakeSite, address: str, level: Level) -> None:
    site.containers = []
    for name in ("compose-config", "cluster-config", "containers"):
        site.commands[name] = Unknown("docker is not installed here", absent=True)
    site.commands["listening"] = Ran(0, f"LISTEN 0 128 {address}:8081 0.0.0.0:*\n", "")
    assert level_and_text(site)[0] is level


def test_where_nobody_can_be_asked_it_is_unknown(site: FakeSite) -> None:
    for name in ("compose-config", "containers", "listening"):
        site.commands[name] = Unknown("not here", absent=True)
    assert level_and_text(site)[0] is Level.UNKNOWN
