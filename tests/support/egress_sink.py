"""Everything that a second engine's containers try to reach outside, and who tried.

Around the engine of support.second_engine, in its network namespace:

- A name server at the engine's `dns` address. Docker's own resolver passes on to it what it cannot answer.
  Names with a domain get an address of 198.18.0.0/15 each, so that what follows is seen as well.
- A capture on all interfaces: of a container's packets also those that Docker then drops.
- A listener, to which TCP for public addresses is redirected: it reads the host's name from TLS or HTTP.
- `watching_runtime`, a `runc` before the real one: see support.egress_hook.

Not seen: what a container sends to itself or to others on its networks, and what one with
`network_mode: none` tries. IPv6 is seen where containers have such addresses; by default none has.
"""

import json
import secrets
import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from support import egress_hook
from support.dns_messages import Question, read_question, write_question
from support.egress_listener import HostListener
from support.egress_names import NameServer
from support.egress_rule import Network, Packet, leaves, name_leaves
from support.packet_capture import PacketCapture, open_capture
from support.second_engine import OUTSIDE, SecondEngine

THE_MACHINE = "the machine itself"
"""Who tried, where no container has the address: the engine, a container on the machine's own network, or a
program that was run in the namespace."""
_CHAIN = "EGRESS_SINK"
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_NOWHERE = ("192.0.2.1", 9)
"""Where the sink sends a packet of its own, to see whether it sees."""


class SinkBlind(AssertionError):
    """The sink did not see its own packet, so an empty record would prove nothing."""


@dataclass(frozen=True)
class Attempt:
    """Somebody tried to leave."""

    who: str
    """The container's name, or THE_MACHINE."""
    how: str
    """`name` where an address was asked for; or the protocol."""
    target: str
    """The name; or address and port."""
    host: str | None = None
    """Whom the connection was meant for, where that could be read."""

    def __str__(self) -> str:
        if self.how == "name":
            return f"{self.who} asked who {self.target} is"
        return f"{self.who} sent {self.how} to {self.target}" + (f" ({self.host})" if self.host else "")


@dataclass(frozen=True)
class _Left:
    """A packet that wanted to leave."""

    who: str
    packet: Packet


class EgressSink:
    """The record. Made by `egress_sink`."""

    def __init__(self, engine: SecondEngine, register: Path) -> None:
        self._engine, self._register = engine, register
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, str], None] = {}
        """Who, and for which name; in order, each once."""
        self._left: list[_Left] = []
        self._met: set[tuple[object, ...]] = set()
        self._crossing: set[tuple[object, ...]] = set()
        self._own = self._networks()
        self._token = secrets.token_hex(8)
        self._sees = threading.Event()
        with ExitStack() as made:
            self._names = NameServer(*engine.call_inside(self._dns_sockets), self._take_question)
            made.callback(self._names.close)
            listening = engine.call_inside(lambda: socket.create_server(("0.0.0.0", 0)))
            self._listener = HostListener(listening)
            made.callback(self._listener.close)
            self._redirect(listening.getsockname()[1])
            made.callback(self._redirect_no_more)
            self._capture = PacketCapture(engine.call_inside(open_capture), self._take_packet)
            made.callback(self._capture.close)
            self._made = made.pop_all()

    def attempts(self, own_names: Collection[str] = ()) -> list[Attempt]:
        """All so far. `own_names` are the stack's services. Raises SinkBlind, PacketsLost."""
        self._fence()
        with self._lock:
            asked, left, own = list(self._asked), list(self._left), self._own | self._networks()
        found = [Attempt(who, "name", name) for who, name in asked if name_leaves(name, own_names, own)]
        return found + [self._attempt(one) for one in left]

    def close(self) -> None:
        """Ends the sink; the engine goes on."""
        self._made.close()

    def _attempt(self, left: _Left) -> Attempt:
        packet = left.packet
        host = self._names.name_of(packet.target)
        if packet.protocol == "tcp":
            host = self._listener.host(str(packet.source), packet.source_port) or host
        elif packet.port == 53 and (question := read_question(packet.payload)):
            host = question.name
        target = f"{packet.target}:{packet.port}" if packet.port else str(packet.target)
        return Attempt(left.who, packet.protocol, target, host)

    def _take_question(self, origin: str, question: Question) -> None:
        if question.name != self._token:
            with self._lock:
                self._asked[self._who(origin), question.name] = None

    def _take_packet(self, packet: Packet) -> None:
        """Decides while the networks are there that the packet belongs to."""
        if packet.payload == self._token.encode():
            self._sees.set()
            return
        if not leaves(packet, self._own):
            return
        journey = (packet.protocol, packet.source_port, packet.target, packet.port)
        known = journey in self._crossing
        self._crossing.add(journey)
        key = (packet.source, packet.protocol, packet.target, packet.port)
        if key in self._met:
            return
        # The network may be younger than the list.
        self._own = self._own | self._networks()
        if not leaves(packet, self._own):
            return
        self._met.add(key)
        who = self._who(str(packet.source))
        # A container's packet is seen again on its way out, then perhaps with the machine's address.
        if not (who == THE_MACHINE and known):
            with self._lock:
                self._left.append(_Left(who, packet))

    def _who(self, address: str) -> str:
        """The container that has the address now: the last one that got it."""
        lines = self._register.read_text().splitlines() if self._register.exists() else []
        for line in reversed(lines):
            told = json.loads(line)
            if address in told["addresses"]:
                return str(told["name"])
        here = any(ip_address(address) == ip_interface(own).ip for own, _ in self._addresses())
        return THE_MACHINE if here else f"an unknown container at {address}"

    def _networks(self) -> set[Network]:
        """Of the engine's bridges; of the interface that leads out, the address alone."""
        found: set[Network] = set()
        for address, interface in self._addresses():
            inside = ip_interface(address)
            found.add(ip_network(inside.ip) if interface == OUTSIDE else inside.network)
        return found

    def _addresses(self) -> list[tuple[str, str]]:
        shown = json.loads(self._engine.run_inside(["ip", "-j", "addr", "show"]).stdout)
        return [
            (f"{info['local']}/{info['prefixlen']}", interface["ifname"])
            for interface in shown
            for info in interface.get("addr_info", [])
        ]

    def _fence(self) -> None:
        """Returns when all that was sent before has been looked at."""
        self._sees.clear()
        self._engine.call_inside(self._send_tokens)
        if not self._sees.wait(30):
            raise SinkBlind("the capture did not see the sink's own packet")
        self._capture.check()

    def _send_tokens(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(30)
            sock.sendto(self._token.encode(), _NOWHERE)
            sock.sendto(write_question(1, self._token), (self._engine.dns, 53))
            try:
                sock.recv(512)
            except TimeoutError:
                raise SinkBlind("the name server did not answer the sink's own question") from None

    def _dns_sockets(self) -> tuple[socket.socket, socket.socket]:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((self._engine.dns, 53))
        return udp, socket.create_server((self._engine.dns, 53))

    def _redirect(self, port: int) -> None:
        self._iptables("-N", _CHAIN)
        for network in _PRIVATE:
            # Containers among themselves pass here too. Private addresses outside are captured all the same.
            self._iptables("-A", _CHAIN, "-d", network, "-j", "RETURN")
        self._iptables("-A", _CHAIN, "-p", "tcp", "-j", "REDIRECT", "--to-ports", str(port))
        self._iptables("-I", "PREROUTING", *_TO_ELSEWHERE)

    def _redirect_no_more(self) -> None:
        self._iptables("-D", "PREROUTING", *_TO_ELSEWHERE)
        self._iptables("-F", _CHAIN)
        self._iptables("-X", _CHAIN)

    def _iptables(self, *arguments: str) -> None:
        self._engine.run_inside(["iptables", "--wait", "-t", "nat", *arguments])


_TO_ELSEWHERE = ("-p", "tcp", "-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", _CHAIN)


@contextmanager
def egress_sink(engine: SecondEngine) -> Iterator[EgressSink]:
    """Watches until the block ends. The engine runs with the `watching_runtime` of its place."""
    sink = EgressSink(engine, engine.log.parent / "runtime" / "register")
    try:
        yield sink
    finally:
        sink.close()


def names_within(engine: SecondEngine) -> set[str]:
    """All by which the engine's containers find each other: `own_names` for the record."""
    containers = engine.docker("ps", "-aq").split()
    found = set()
    # One that is gone meanwhile is an error to Docker, which tells of the others all the same.
    told_of = engine.docker("inspect", *containers, check=False) if containers else "[]"
    for told in json.loads(told_of):
        networks = told["NetworkSettings"]["Networks"].values()
        aliases = [alias for network in networks for alias in network["Aliases"] or []]
        found |= {told["Name"].removeprefix("/"), told["Config"]["Hostname"], *aliases}
    return found


def watching_runtime(place: Path) -> Path:
    """A folder with a `runc` for `path_first` of `second_engine`, which gets the same `place`."""
    folder = place / "runtime"
    folder.mkdir()
    real = shutil.which("runc")
    assert real, "runc is not installed"
    hook = shlex.join([sys.executable, "-I", "-S", egress_hook.__file__, "add"])
    told = shlex.join([str(folder / "register"), str(place / "docker-data" / "containers")])
    program = folder / "runc"
    program.write_text(f"""#!/bin/sh
bundle= creates= last=
for word; do
    [ "$last" != --bundle ] || bundle=$word
    [ "$word" != create ] || creates=yes
    last=$word
done
if [ -n "$creates" ] && [ -n "$bundle" ]; then {hook} "$bundle" {told} || exit; fi
exec {shlex.quote(real)} "$@"
""")
    program.chmod(0o755)
    return folder
