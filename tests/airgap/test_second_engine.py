"""The second engine of the air-gap tests: what it has, what it has not, and that nothing of it stays."""

import io
import os
import socket
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.mini_platform import BUSYBOX
from support.second_engine import (
    ADDRESS,
    OUTSIDE,
    EngineFailed,
    ImageStoreUnsupported,
    SecondEngine,
    second_engine,
)

pytestmark = pytest.mark.stack

IMAGE = "second-engine-test:1"


def import_busybox(engine: SecondEngine) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        page = tarfile.TarInfo("www/index.html")
        page.size = 5
        tar.addfile(page, io.BytesIO(b"inner"))
    command = ["docker", "import", "-c", 'ENTRYPOINT ["/bin/busybox"]', "-", IMAGE]
    environment = engine.environment()
    subprocess.run(command, input=buffer.getvalue(), env=environment, check=True, capture_output=True)


def new_name() -> str:
    return f"e{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def engine(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondEngine]:
    """With one small image in it."""
    with second_engine(tmp_path_factory.mktemp("engine"), new_name()) as made:
        assert made.docker("images", "-q") == ""
        import_busybox(made)
        yield made


def test_it_knows_nothing_of_the_first_engine(engine: SecondEngine) -> None:
    first = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, text=True)
    assert "No such image" in first.stderr
    assert engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split() == [IMAGE]
    assert engine.docker("info", "--format", "{{.DockerRootDir}}").strip() == str(engine.data_root)


def test_a_published_port_is_reached_in_the_namespace_and_through_a_forwarder(engine: SecondEngine) -> None:
    container = engine.docker(
        "run", "-d", "--init", "-p", "8080:80", IMAGE, "httpd", "-f", "-h", "/www"
    ).strip()
    try:
        with engine.forwarded_port(8080) as here:
            assert httpx.get(f"http://127.0.0.1:{here}/").text == "inner"
            assert httpx.get(f"http://127.0.0.1:{here}/index.html").text == "inner"
        asked = engine.run_inside([str(BUSYBOX), "wget", "-q", "-O-", "http://127.0.0.1:8080/"])
        assert asked.stdout == "inner"
    finally:
        engine.docker("rm", "-f", container)


@contextmanager
def listening_to_all(engine: SecondEngine) -> Iterator[socket.socket]:
    """What leaves the namespace through its interface, as it is on the wire."""
    every_protocol = socket.htons(0x0003)
    wire = engine.call_inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every_protocol))
    with wire:
        engine.call_inside(lambda: wire.bind((OUTSIDE, 0)))
        wire.settimeout(0.2)
        yield wire


def reaches_the_wire(wire: socket.socket, address: str, *, timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            packet = wire.recv(65536)
        except TimeoutError:
            continue
        if socket.inet_aton(address) in packet[26:34]:
            return True
    return False


def test_what_a_container_sends_outside_is_seen_and_not_refused(engine: SecondEngine) -> None:
    with listening_to_all(engine) as wire:
        talking = engine.docker("run", "-d", "--init", IMAGE, "nc", "203.0.113.9", "80").strip()
        try:
            assert reaches_the_wire(wire, "203.0.113.9")
            # It still waits for an answer, which does not come; a refusal would have ended it.
            running = engine.docker("inspect", "--format", "{{.State.Running}}", talking)
        finally:
            engine.docker("rm", "-f", talking)
    assert running.strip() == "true"


def test_containers_ask_the_given_name_server(engine: SecondEngine) -> None:
    def bound() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((ADDRESS, 53))
        server.settimeout(30)
        return server

    with engine.call_inside(bound) as server:
        engine.docker("network", "create", "asking")
        asking = engine.docker(
            "run", "-d", "--init", "--network", "asking", IMAGE, "nslookup", "phone.home.test"
        )
        try:
            question = server.recvfrom(512)[0]
        finally:
            engine.docker("rm", "-f", asking.strip())
            engine.docker("network", "rm", "asking")
    assert b"\x05phone\x04home\x04test" in question


def test_this_machine_is_not_reached_from_it(engine: SecondEngine) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = str(server.getsockname()[1])
        own = subprocess.run(
            ["ip", "-4", "-o", "addr", "show", "scope", "global"], capture_output=True, text=True
        )
        addresses = [line.split()[3].partition("/")[0] for line in own.stdout.splitlines()]
        for address in ["127.0.0.1", *addresses[:1]]:
            done = engine.run_inside(
                [str(BUSYBOX), "nc", "-w", "1", address, port], check=False, timeout_s=30
            )
            assert done.returncode != 0, address


def everything_of(name: str) -> list[str]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left = [line for line in mounts if name in line]
    left += [str(path) for path in Path("/run").glob(f"*{name}*")]
    left += subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split().count(
        name
    ) * [name]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if name in process.read_text():
                left.append(process.read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return left


def test_nothing_is_left_of_an_engine_whose_test_failed(docker_engine: None, tmp_path: Path) -> None:
    name = new_name()

    def fail_beside_a_container() -> None:
        with second_engine(tmp_path, name) as made:
            import_busybox(made)
            made.docker("volume", "create", "data")
            made.docker("run", "-d", "--init", "-v", "data:/data", IMAGE, "sleep", "1000")
            assert everything_of(name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_beside_a_container()
    assert everything_of(name) == []
    assert [path.name for path in tmp_path.iterdir()] == ["dockerd.log"]


def test_an_engine_that_cannot_start_says_why_and_leaves_nothing(docker_engine: None, tmp_path: Path) -> None:
    (tmp_path / "docker-data").write_text("a file where the engine wants a folder")
    name = new_name()
    with pytest.raises(EngineFailed, match="docker-data"), second_engine(tmp_path, name):
        pass
    assert everything_of(name) == []


def test_an_image_store_that_this_docker_lacks_is_named(docker_engine: None, tmp_path: Path) -> None:
    version = subprocess.run(["dockerd", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.partition("version ")[2].partition(".")[0]) >= 24:
        with second_engine(tmp_path, new_name(), image_store="containerd") as made:
            assert "io.containerd.snapshotter" in made.docker("info", "--format", "{{json .DriverStatus}}")
        return
    with (
        pytest.raises(ImageStoreUnsupported, match="24"),
        second_engine(tmp_path, new_name(), image_store="containerd"),
    ):
        pass
    assert not os.listdir(tmp_path)
