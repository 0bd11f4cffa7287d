"""The sink that proves the absence of egress sees planted offenders, each by name, and nothing else."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.busybox_image import import_busybox
from support.egress_sink import THE_MACHINE, Attempt, EgressSink, egress_sink, watching_runtime
from support.mini_platform import BUSYBOX
from support.platform_processes import eventually
from support.second_engine import SecondEngine, second_engine

pytestmark = pytest.mark.stack

IMAGE = "egress-test:1"
NETWORKS = ("ordinary", "closed")
"""One as `default` of the stack, one as `control`."""


@pytest.fixture(scope="module")
def small_engine(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondEngine]:
    """With an ordinary and an internal network, and one image of a shell."""
    place = tmp_path_factory.mktemp("egress")
    name = f"s{uuid.uuid4().hex[:8]}"
    with second_engine(place, name, path_first=watching_runtime(place)) as engine:
        import_busybox(engine, IMAGE)
        engine.docker("network", "create", "ordinary")
        engine.docker("network", "create", "--internal", "closed")
        yield engine


@pytest.fixture
def sink(small_engine: SecondEngine) -> Iterator[EgressSink]:
    with egress_sink(small_engine) as sink:
        yield sink


def run(engine: SecondEngine, name: str, network: str, script: str) -> str:
    """What the script printed, in a container that is gone afterwards."""
    command = ["run", "--rm", "--name", name, "--network", network, IMAGE, "sh", "-c", script]
    return engine.docker(*command, check=False, timeout_s=60)


@contextmanager
def serving(engine: SecondEngine, name: str, network: str) -> Iterator[None]:
    """A container with a web page, until the block ends."""
    command = ["run", "-d", "--rm", "--init", "--name", name, "--network", network, IMAGE]
    engine.docker(*command, "httpd", "-f", "-p", "80", "-h", "/www")
    try:
        yield
    finally:
        engine.docker("rm", "-f", name)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_container_that_asks_for_a_name_is_caught(
    small_engine: SecondEngine, sink: EgressSink, network: str
) -> None:
    run(small_engine, "asker", network, "nslookup -type=a phone.home.test")
    assert sink.attempts() == [Attempt("asker", "name", "phone.home.test")]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_container_that_sends_to_an_address_is_caught_with_the_host_it_means(
    small_engine: SecondEngine, sink: EgressSink, network: str
) -> None:
    request = r"printf 'HEAD / HTTP/1.1\r\nHost: telemetry.test\r\n\r\n'"
    run(small_engine, "sender", network, f"{request} | nc -w 5 203.0.113.9 80")
    assert sink.attempts() == [Attempt("sender", "tcp", "203.0.113.9:80", "telemetry.test")]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_connection_to_a_name_is_caught_twice(
    small_engine: SecondEngine, sink: EgressSink, network: str
) -> None:
    """The question and what follows: also where nothing in the connection tells whom it is meant for."""
    find = "nslookup -type=a models.test | tail -n 2 | tr -cd '0-9.\\n' | head -n 1"
    run(small_engine, "fetcher", network, f"nc -w 5 $({find}) 443 </dev/null")
    asked, sent = sink.attempts()
    assert asked == Attempt("fetcher", "name", "models.test")
    assert (sent.who, sent.how, sent.host) == ("fetcher", "tcp", "models.test")


@pytest.mark.parametrize("network", NETWORKS)
def test_what_no_connection_is_made_for_is_caught_as_well(
    small_engine: SecondEngine, sink: EgressSink, network: str
) -> None:
    """A datagram, a question to another name server, an echo, a private network, a cloud's metadata."""
    script = (
        "timeout 1 tftp -g -r x 203.0.113.9 443 & timeout 1 nslookup -type=a own.resolver.test 9.9.9.9 & "
        "ping -c 1 -W 1 203.0.113.10 & nc -w 1 192.168.77.5 22 & nc -w 1 169.254.169.254 80 & wait"
    )
    run(small_engine, "odd", network, script)
    found = set(sink.attempts())
    assert found == {
        Attempt("odd", "udp", "203.0.113.9:443"),
        Attempt("odd", "udp", "9.9.9.9:53", "own.resolver.test"),
        Attempt("odd", "icmp", "203.0.113.10"),
        Attempt("odd", "tcp", "192.168.77.5:22"),
        Attempt("odd", "tcp", "169.254.169.254:80"),
    }


def test_of_two_the_right_one_is_named(small_engine: SecondEngine, sink: EgressSink) -> None:
    with serving(small_engine, "quiet", "ordinary"):
        run(small_engine, "loud", "ordinary", "nc -w 5 203.0.113.9 80 </dev/null")
        assert [attempt.who for attempt in sink.attempts()] == ["loud"]


@pytest.mark.parametrize("network", NETWORKS)
def test_containers_that_talk_among_themselves_leave_the_record_empty(
    small_engine: SecondEngine, sink: EgressSink, network: str
) -> None:
    with serving(small_engine, "quiet", network):
        told = run(small_engine, "neighbour", network, "nslookup -type=a quiet; ping -c 1 -W 5 quiet")
        assert "1 packets received" in told
        assert sink.attempts() == []


def test_a_published_port_that_is_asked_leaves_the_record_empty(
    small_engine: SecondEngine, sink: EgressSink
) -> None:
    command = ["run", "-d", "--rm", "--init", "--network", "ordinary", "-p", "8080:80", "--name", "published"]
    small_engine.docker(*command, IMAGE, "httpd", "-f", "-p", "80", "-h", "/www")
    try:
        ask = [str(BUSYBOX), "wget", "-q", "-O-", "http://127.0.0.1:8080/"]
        eventually("it answers", lambda: small_engine.run_inside(ask, check=False).stdout == "inner", 20)
        assert sink.attempts() == []
    finally:
        small_engine.docker("rm", "-f", "published")


def test_the_name_of_a_service_that_is_down_is_no_attempt_where_it_is_one_of_the_stack(
    small_engine: SecondEngine, sink: EgressSink
) -> None:
    told = run(small_engine, "waiting", "ordinary", "nslookup -type=a minio")
    assert "NXDOMAIN" in told
    assert sink.attempts(own_names=["minio", "registry"]) == []
    assert sink.attempts(own_names=["registry"]) == [Attempt("waiting", "name", "minio")]


def test_a_new_network_is_known_from_its_first_packet(small_engine: SecondEngine, sink: EgressSink) -> None:
    small_engine.docker("network", "create", "younger")
    try:
        with serving(small_engine, "quiet", "younger"):
            run(small_engine, "neighbour", "younger", "ping -c 1 -W 5 quiet")
            assert sink.attempts() == []
    finally:
        small_engine.docker("network", "rm", "younger")


def test_a_program_of_the_machine_is_caught_as_well(small_engine: SecondEngine, sink: EgressSink) -> None:
    small_engine.run_inside(
        [str(BUSYBOX), "timeout", "1", str(BUSYBOX), "nc", "203.0.113.9", "443"], check=False
    )
    assert sink.attempts() == [Attempt(THE_MACHINE, "tcp", "203.0.113.9:443")]


def test_the_sink_leaves_nothing_behind(small_engine: SecondEngine, tmp_path: Path) -> None:
    before = small_engine.run_inside(["iptables-save", "-t", "nat"]).stdout
    with egress_sink(small_engine):
        assert "EGRESS_SINK" in small_engine.run_inside(["iptables-save", "-t", "nat"]).stdout
    rules = [line for line in before.splitlines() if line.startswith("-")]
    after = small_engine.run_inside(["iptables-save", "-t", "nat"]).stdout
    assert [line for line in after.splitlines() if line.startswith("-")] == rules
    assert "EGRESS_SINK" not in after
