"""The hook by which the sink knows containers, on network namespaces without any Docker."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import egress_hook

pytestmark = pytest.mark.stack

ID = "0123456789abcdef" * 4


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def machine_and_container(docker_engine: None) -> Iterator[tuple[str, str]]:
    """Two namespaces with one network between them; nothing in the second one leads further."""
    machine, container = (f"h{uuid.uuid4().hex[:8]}" for _ in range(2))
    ip("netns", "add", machine)
    ip("netns", "add", container)
    try:
        ip("-n", machine, "link", "add", "bridge", "type", "veth", "peer", "name", "eth0", "netns", container)
        for name, interface, address in (
            (machine, "bridge", "172.30.0.1/16"),
            (container, "eth0", "172.30.0.2/16"),
        ):
            ip("-n", name, "addr", "add", address, "dev", interface)
            ip("-n", name, "link", "set", interface, "up")
        yield machine, container
    finally:
        ip("netns", "del", machine)
        ip("netns", "del", container)


def run_hook(machine: str, container: str, place: Path) -> list[dict[str, object]]:
    """What is in the register after it has run for a container's process."""
    command = ["nsenter", f"--net=/run/netns/{container}", "sh", "-c", "echo inside && exec cat"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"inside\n"
    try:
        state = json.dumps({"ociVersion": "1.0.2", "id": ID, "pid": process.pid, "bundle": "/"})
        hook = [sys.executable, "-I", "-S", egress_hook.__file__, "hook"]
        command = ["nsenter", f"--net=/run/netns/{machine}", *hook, str(place / "register"), str(place)]
        subprocess.run(command, input=state, text=True, check=True, capture_output=True)
    finally:
        process.communicate()
    return [json.loads(line) for line in (place / "register").read_text().splitlines()]


def test_a_container_that_could_only_fail_by_itself_is_led_to_the_machine(
    machine_and_container: tuple[str, str], tmp_path: Path
) -> None:
    machine, container = machine_and_container
    (tmp_path / ID).mkdir()
    (tmp_path / ID / "config.v2.json").write_text(json.dumps({"Name": "/gateway"}))
    assert run_hook(machine, container, tmp_path) == [{"name": "gateway", "addresses": ["172.30.0.2"]}]
    assert ip("-n", container, "route", "show", "default").split()[:3] == ["default", "via", "172.30.0.1"]


def test_a_route_that_is_there_stays_and_a_name_that_is_unknown_is_the_id(
    machine_and_container: tuple[str, str], tmp_path: Path
) -> None:
    machine, container = machine_and_container
    ip("-n", container, "route", "add", "default", "via", "172.30.0.9")
    assert run_hook(machine, container, tmp_path)[0]["name"] == ID[:12]
    assert "172.30.0.9" in ip("-n", container, "route", "show", "default")


def test_it_is_added_behind_the_hooks_that_are_there(tmp_path: Path) -> None:
    """Docker's own makes the network, which must be there when this one looks."""
    (tmp_path / "config.json").write_text(json.dumps({"hooks": {"prestart": [{"path": "/dockers"}]}}))
    egress_hook.add(tmp_path, "/register", "/containers")
    first, second = json.loads((tmp_path / "config.json").read_text())["hooks"]["prestart"]
    assert first == {"path": "/dockers"}
    assert second["args"][-3:] == ["hook", "/register", "/containers"]
