"""What counts as an attempt to leave a machine's containers, decided from one packet or one name."""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}
_EVERYBODY_HERE = IPv4Address("255.255.255.255")


@dataclass(frozen=True)
class Packet:
    """The first packet of whatever wants to go somewhere."""

    source: Address
    target: Address
    protocol: str
    source_port: int = 0
    port: int = 0
    payload: bytes = b""


def read_packet(data: bytes) -> Packet | None:
    """An IP packet from its header on; None where it is none, or cut short."""
    try:
        version = data[0] >> 4
        if version == 4:
            length, number = (data[0] & 15) * 4, data[9]
            source, target = ip_address(data[12:16]), ip_address(data[16:20])
        elif version == 6:
            length, number = 40, data[6]
            source, target = ip_address(data[8:24]), ip_address(data[24:40])
        else:
            return None
        protocol = _PROTOCOLS.get(number, f"protocol {number}")
        if protocol not in ("tcp", "udp"):
            return Packet(source, target, protocol)
        ports = struct.unpack_from("!HH", data, length)
    except (IndexError, struct.error, ValueError):
        return None
    payload = data[length + 8 :] if protocol == "udp" else b""
    return Packet(source, target, protocol, ports[0], ports[1], payload)


def leaves(packet: Packet, own: Collection[Network]) -> bool:
    """Whether it wants to go beyond the networks of this machine's containers.

    `own` are the engine's networks and the addresses of its host. Multicast and IPv6's link-local addresses
    never pass a router, so they stay as well. IPv4's link-local ones count: the metadata services of clouds
    answer there.
    """
    target = packet.target
    if target.is_multicast or target.is_loopback or target.is_unspecified or target == _EVERYBODY_HERE:
        return False
    if isinstance(target, IPv6Address) and target.is_link_local:
        return False
    return not any(target in network for network in own)


def name_leaves(name: str, own_names: Collection[str], own: Collection[Network]) -> bool:
    """Whether a query that Docker's own resolver could not answer is an attempt to leave.

    Docker's resolver passes on what it does not know. That is also the name of a service of the stack while
    it is down: such a name, whole and without a domain, stays. So does the question who has an address of
    `own`. All else counts, other names without a domain and names of services with one included.
    """
    asked = name.rstrip(".").lower()
    if asked in {own_name.lower() for own_name in own_names} and "." not in asked:
        return False
    address = _asked_backwards(asked)
    return address is None or not (address.is_loopback or any(address in network for network in own))


def _asked_backwards(name: str) -> Address | None:
    labels = name.split(".")[::-1]
    try:
        if labels[:2] == ["arpa", "in-addr"]:
            return ip_address(".".join(labels[2:]))
        if labels[:2] == ["arpa", "ip6"]:
            digits = "".join(labels[2:])
            return ip_address(":".join(digits[n : n + 4] for n in range(0, 32, 4)))
    except ValueError:
        return None
    return None
