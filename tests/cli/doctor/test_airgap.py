"""The proof that nothing gets out."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from msp_cli.doctor import airgap, airgap_probe
from msp_cli.doctor.findings import Level
from msp_cli.doctor.site import Reached, Unknown
from support.cli_doctor import FakeSite, container

SHUT = [Reached("DNS huggingface.co", False, "not known"), Reached("TCP 1.1.1.1:443", False, "unreachable")]
OPEN = [SHUT[0], Reached("TCP 1.1.1.1:443", True, "connected")]


@pytest.fixture
def site() -> FakeSite:
    """An installation that is shut, with every place tried."""
    site = FakeSite()
    site.env(REGISTRY_MODE="offline")
    site.containers = [
        container("gateway"),
        container("registry", env={"REGISTRY_MODE": "offline"}),
        container("init-store", status="exited"),
    ]
    site.attempts = {"host": SHUT, "gateway": SHUT, "registry": SHUT}
    return site


def levels(site: FakeSite) -> list[Level]:
    return [finding.level for finding in airgap.judge(site.attempts, site.facts())]


def test_isolation_is_proved_where_everything_failed_everywhere(site: FakeSite) -> None:
    assert levels(site) == [Level.OK] * 3


def test_what_got_through_is_named_with_its_place(site: FakeSite) -> None:
    site.attempts = {"host": SHUT, "gateway": OPEN, "registry": SHUT}
    (bad,) = [f for f in airgap.judge(site.attempts, site.facts()) if f.level is Level.PROBLEM]
    assert "from the network of gateway 1 of 2 got out: TCP 1.1.1.1:443: connected" in bad.what
    assert "huggingface" not in bad.what
    assert "enable_ip_masquerade" in (bad.remedy or "")


def test_a_host_with_a_way_out_is_a_problem_too(site: FakeSite) -> None:
    site.attempts = {**site.attempts, "host": OPEN}
    assert Level.PROBLEM in levels(site)


def test_a_place_that_was_not_tried_is_no_proof(site: FakeSite) -> None:
    site.attempts = {"host": SHUT, "gateway": Unknown("there is no image"), "registry": SHUT}
    assert Level.UNKNOWN in levels(site)
    site.attempts = {"host": SHUT, "gateway": SHUT}
    findings = airgap.judge(site.attempts, site.facts())
    assert any("nothing was tried from registry" in finding.what for finding in findings)


def test_without_containers_the_host_alone_proves_nothing(site: FakeSite) -> None:
    site.stop_platform()
    site.attempts = {"host": SHUT}
    assert Level.UNKNOWN in levels(site)


def test_a_registry_that_is_online_or_has_a_proxy_is_a_way_out(site: FakeSite) -> None:
    site.containers[1] = container("registry", env={"REGISTRY_MODE": "online"})
    assert Level.PROBLEM in levels(site)
    site.containers[1] = container("registry", env={"REGISTRY_MODE": "offline", "HTTPS_PROXY": "http://p:1"})
    assert Level.PROBLEM in levels(site)


def test_an_empty_answer_of_the_probe_is_no_proof() -> None:
    assert isinstance(airgap.read_attempts("[]"), Unknown)
    assert isinstance(airgap.read_attempts("Traceback"), Unknown)


def test_the_probe_tells_a_port_that_answers_from_one_that_does_not() -> None:
    with socket.socket() as unused, socket.create_server(("127.0.0.1", 0)) as listening:
        unused.bind(("127.0.0.1", 0))
        heard, shut = (f"127.0.0.1:{sock.getsockname()[1]}" for sock in (listening, unused))
        found = airgap_probe.probe(["localhost", "name.invalid"], [heard, shut], [])
    through = {str(attempt["target"]): attempt["through"] for attempt in found}
    assert list(through.values()) == [True, False, True, False]
    assert "DNS localhost" in through


def test_the_probe_tells_a_name_server_that_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        found: list[object] = []

        asking = threading.Thread(target=lambda: found.extend(airgap_probe.probe([], [], [address])))
        asking.start()
        question, client = server.recvfrom(512)
        server.sendto(question, client)
        asking.join(10)
    assert found == [{"target": f"UDP {address}", "through": True, "detail": "a name server answered"}]


def test_the_probe_runs_in_any_python_from_standard_input() -> None:
    source = Path(airgap_probe.__file__).read_text()
    # Its own lists would reach out of the test.
    assert source.count("json.dumps(probe())") == 1
    source = source.replace("json.dumps(probe())", "json.dumps(probe(['localhost'], [], []))")
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=source, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)[0]["through"] is True
