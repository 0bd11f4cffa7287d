"""The offline form publishes its ports and has no way out, in a real engine, seen from another host."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.compose_forms import OFFLINE, REQUIRED, STANDARD
from support.compose_stack import ComposeStack
from support.servers import free_port

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="another host is made with `ip netns`, which needs root"),
]

PROJECT = "msp-way-out-test"
HOST, OTHER_HOST = "10.98.76.1", "10.98.76.2"
OTHER_PORT = 8999
# The base image of our own; whatever is provisioned for building is there.
PROBE = """\
services:
  probe:
    image: python:3.13-slim-trixie
    pull_policy: never
    command: [python3, -m, http.server, "8000"]
    init: true
    read_only: true
    networks: {{ default: {{}}, control: {{}}, operators: {{}} }}
    ports: ["{port}:8000"]
"""
REACH = f"""
import socket
try:
    socket.create_connection(("{OTHER_HOST}", {OTHER_PORT}), 3)
    print("reached")
except TimeoutError:
    print("nothing came back")
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture(scope="module")
def other_host() -> Iterator[str]:
    """A host beside this one, which knows no way to Docker's networks and listens: its namespace."""
    name = f"wayout{os.getpid()}"
    near, far = f"wn{os.getpid()}"[:15], f"wf{os.getpid()}"[:15]
    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        ip("link", "set", far, "netns", name)
        ip("addr", "add", f"{HOST}/24", "dev", near)
        ip("link", "set", near, "up")
        inside = ["ip", "netns", "exec", name]
        for command in (["addr", "add", f"{OTHER_HOST}/24", "dev", far], ["link", "set", far, "up"]):
            subprocess.run([*inside, "ip", *command], check=True)
        serving = [sys.executable, "-m", "http.server", str(OTHER_PORT), "--bind", OTHER_HOST]
        server = subprocess.Popen([*inside, *serving], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(f"http://{OTHER_HOST}:{OTHER_PORT}/")
            yield name
        finally:
            server.terminate()
            server.wait()
    finally:
        # The pair of interfaces goes with the namespace that holds one end.
        ip("netns", "del", name)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(url, trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"{url} did not answer")


@contextmanager
def probe(folder: Path, files: tuple[str, ...]) -> Iterator[tuple[ComposeStack, int]]:
    """A container on all networks of the stack's own services, and the port that it publishes."""
    port = free_port()
    extra = folder / "probe.yml"
    extra.write_text(PROBE.format(port=port))
    settings = {**REQUIRED, "COMPOSE_PROJECT_NAME": PROJECT}
    stack = ComposeStack((*files, str(extra)), settings, folder / "env")
    try:
        stack.run("up", "-d", "probe")
        yield stack, port
    finally:
        stack.run("down", "-v")
    assert stack.leftovers(PROJECT) == []


def asked_from(namespace: str, url: str) -> str:
    """The status that another host gets."""
    ask = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=20).status)"
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", ask]
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.usefixtures("other_host")
def test_the_open_form_reaches_another_host(tmp_path: Path) -> None:
    """Or else the next test would prove nothing."""
    with probe(tmp_path, STANDARD) as (stack, _):
        assert stack.run("exec", "-T", "probe", "python3", "-c", REACH).strip() == "reached"


def test_the_offline_form_is_reached_and_reaches_nobody(tmp_path: Path, other_host: str) -> None:
    with probe(tmp_path, (*STANDARD, OFFLINE)) as (stack, port):
        _wait_for(f"http://{HOST}:{port}/")
        assert asked_from(other_host, f"http://{HOST}:{port}/") == "200"
        assert stack.run("exec", "-T", "probe", "python3", "-c", REACH).strip() == "nothing came back"
