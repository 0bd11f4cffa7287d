"""What the egress proof is made of: the rule by which packets and names leave, and what reads them."""

import socket
import ssl
import struct
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from support.dns_messages import Question, read_question, write_answer, write_question
from support.egress_listener import HostListener, host_in
from support.egress_names import NameServer
from support.egress_rule import Packet, leaves, name_leaves, read_packet

OWN = [ip_network(text) for text in ("172.18.0.0/16", "172.19.0.0/16", "198.51.100.1/32", "fd00:1::/64")]
STACK = ["minio", "registry", "model-gateway"]


@pytest.mark.parametrize(
    ("target", "counts", "why"),
    [
        ("172.18.0.3", False, "a container of the same network"),
        ("172.19.0.3", False, "a container of another network"),
        ("172.18.0.1", False, "the machine, as containers see it"),
        ("172.18.255.255", False, "everybody on the network"),
        ("198.51.100.1", False, "the machine's own address"),
        ("127.0.0.1", False, "the loopback"),
        ("127.0.0.11", False, "Docker's own resolver"),
        ("0.0.0.0", False, "no address"),
        ("255.255.255.255", False, "everybody here, which no router passes"),
        ("224.0.0.251", False, "multicast, which no router here passes"),
        ("::1", False, "the loopback"),
        ("ff02::1", False, "neighbour discovery"),
        ("ff02::16", False, "multicast listeners"),
        ("fe80::42", False, "a neighbour on the wire"),
        ("fd00:1::7", False, "a container with IPv6"),
        ("203.0.113.9", True, "the internet"),
        ("198.18.0.1", True, "what the sink's own name server tells"),
        ("198.51.100.2", True, "beside the machine, on its network"),
        ("172.20.0.1", True, "a network that looks like Docker's, and is none of its"),
        ("10.0.0.1", True, "a site's own network"),
        ("192.168.1.1", True, "a site's own network"),
        ("169.254.169.254", True, "a cloud's metadata"),
        ("2606:4700::1111", True, "the internet"),
        ("fd00:2::7", True, "a private network of somebody else"),
    ],
)
def test_a_packet_leaves_by_its_target(target: str, counts: bool, why: str) -> None:
    source = "172.18.0.2" if "." in target else "fd00:1::2"
    packet = Packet(ip_address(source), ip_address(target), "tcp", 40000, 443)
    assert leaves(packet, OWN) is counts, why


@pytest.mark.parametrize(
    ("name", "counts", "why"),
    [
        ("minio", False, "a service that is down"),
        ("MinIO.", False, "the same, written otherwise"),
        ("model-gateway", False, "a container's name"),
        ("3.0.18.172.in-addr.arpa", False, "who is this container?"),
        ("1.100.51.198.in-addr.arpa", False, "who is this machine?"),
        ("1.0.0.127.in-addr.arpa", False, "who am I?"),
        (ip_address("fd00:1::7").reverse_pointer, False, "a container with IPv6"),
        ("huggingface.co", True, "the hub"),
        ("metrics", True, "no service of the stack, whoever else has that name on the site"),
        ("minio.example.lan", True, "a name of the site's, which begins like a service's"),
        ("minio.local", True, "the same"),
        ("registry-1.docker.io", True, "an image registry"),
        ("9.113.0.203.in-addr.arpa", True, "who is this address of the internet?"),
        ("in-addr.arpa", True, "a zone"),
        ("x.0.18.172.in-addr.arpa", True, "no address"),
    ],
)
def test_a_question_leaves_by_its_name(name: str, counts: bool, why: str) -> None:
    assert name_leaves(name, STACK, OWN) is counts, why


def ipv4(protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 0, 0, 0, 64, protocol, 0)
    return head + socket.inet_aton("172.18.0.2") + socket.inet_aton("203.0.113.9") + options + payload


def test_packets_are_read() -> None:
    here, there = ip_address("172.18.0.2"), ip_address("203.0.113.9")
    ports = struct.pack("!HH", 40000, 53)
    assert read_packet(ipv4(6, ports + bytes(16))) == Packet(here, there, "tcp", 40000, 53)
    assert read_packet(ipv4(6, ports + bytes(16), bytes(8))) == Packet(here, there, "tcp", 40000, 53)
    assert read_packet(ipv4(17, ports + bytes(4) + b"what")) == Packet(here, there, "udp", 40000, 53, b"what")
    assert read_packet(ipv4(1, b"\x08\0")) == Packet(here, there, "icmp")
    assert read_packet(ipv4(47, b"")) == Packet(here, there, "protocol 47")
    six = struct.pack("!IHBB", 6 << 28, 4, 17, 1) + ip_address("fd00::1").packed + ip_address("::2").packed
    assert read_packet(six + ports + bytes(4)) == Packet(
        ip_address("fd00::1"), ip_address("::2"), "udp", 40000, 53
    )


@pytest.mark.parametrize("data", [b"", b"\x45\0\0", ipv4(6, b"\0"), b"\x75" + bytes(60), b"\x60" + bytes(20)])
def test_what_is_no_packet_is_passed_over(data: bytes) -> None:
    assert read_packet(data) is None


def test_a_question_is_read_and_answered() -> None:
    message = write_question(77, "phone.home.test")
    question = read_question(message)
    assert question == Question(77, "phone.home.test", "A", message[12:])
    answer = write_answer(question, IPv4Address("198.18.0.1"))
    assert (answer[:2], answer[3] & 15, answer[-4:]) == (b"\0\x4d", 0, bytes((198, 18, 0, 1)))
    unknown = write_answer(question, None)
    assert (unknown[3] & 15, unknown[12:]) == (3, message[12:])


@pytest.mark.parametrize(
    "message", [b"", bytes(12), bytes(5) + b"\1" + bytes(6) + b"\x07short", b"\xff" * 40]
)
def test_what_is_no_question_is_passed_over(message: bytes) -> None:
    assert read_question(message) is None


def test_the_host_is_read_from_what_a_client_sends_first() -> None:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="hub.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert host_in(outgoing.read()) == "hub.test"
    assert host_in(b"GET / HTTP/1.1\r\nAccept: */*\r\nhost: hub.test:80\r\n\r\n") == "hub.test:80"
    assert host_in(b"SSH-2.0-OpenSSH_9.2\r\n") is None
    assert host_in(b"\x16\x03\x01broken") is None
    assert host_in(b"") is None


def asked_by_udp(server: tuple[str, int], message: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.sendto(message, server)
        return sock.recv(512)


def asked_by_tcp(server: tuple[str, int], message: bytes) -> bytes:
    with socket.create_connection(server, 20) as sock:
        sock.sendall(struct.pack("!H", len(message)) + message)
        length = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))[0]
        return sock.recv(length, socket.MSG_WAITALL)


def test_the_name_server_gives_each_name_an_address_and_none_to_what_has_no_domain() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    tcp = socket.create_server(("127.0.0.1", 0))
    asked: list[tuple[str, str]] = []
    by_udp, by_tcp = udp.getsockname(), tcp.getsockname()
    server = NameServer(udp, tcp, lambda origin, question: asked.append((origin, question.name)))
    try:
        first = asked_by_udp(by_udp, write_question(1, "one.test"))
        second = asked_by_tcp(by_tcp, write_question(2, "two.test"))
        assert first[-4:] == IPv4Address("198.18.0.1").packed
        assert second[-4:] == IPv4Address("198.18.0.2").packed
        assert asked_by_tcp(by_tcp, write_question(3, "ONE.test"))[-4:] == first[-4:]
        assert asked_by_udp(by_udp, write_question(4, "minio"))[3] & 15 == 3
        assert server.name_of(IPv4Address("198.18.0.2")) == "two.test"
        assert asked == [("127.0.0.1", name) for name in ("one.test", "two.test", "ONE.test", "minio")]
    finally:
        server.close()


def test_the_listener_remembers_for_whom_a_connection_was_meant() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listener = HostListener(listening)
    try:
        with socket.create_connection(listening.getsockname(), 20) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: hub.test\r\n\r\n")
            # It ends the connection when it has read.
            assert sock.recv(1) == b""
            assert listener.host(*sock.getsockname()) == "hub.test"
            assert listener.host("127.0.0.1", 1) is None
    finally:
        listener.close()
