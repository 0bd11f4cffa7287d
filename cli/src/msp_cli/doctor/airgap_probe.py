"""Tries to reach the outside, and tells what got through, as JSON.

The standard library alone, and no import of ours: it is also handed to other Pythons on standard input.
"""

import json
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

Attempt = dict[str, object]

TIMEOUT_S = 4.0

NAMES: Sequence[str] = ["huggingface.co", "pypi.org", "registry-1.docker.io", "github.com"]
"""What this kind of software asks for when it thinks that it is online."""

ADDRESSES: Sequence[str] = ["1.1.1.1:443", "8.8.8.8:53", "9.9.9.9:80", "[2606:4700:4700::1111]:443"]
"""Reached without any name: an air gap that only lacks DNS is none."""

DNS_SERVERS: Sequence[str] = ["8.8.8.8:53", "1.1.1.1:53"]

_QUESTION = bytes.fromhex("123401000001000000000000") + b"\x0bhuggingface\x02co\x00\x00\x01\x00\x01"


def try_name(name: str) -> Attempt:
    """Whether a name of the outside is known."""
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, 443)})
    except (OSError, UnicodeError) as error:
        return _attempt(f"DNS {name}", False, str(error))
    return _attempt(f"DNS {name}", True, "resolved to " + ", ".join(found[:3]))


def try_address(address: str) -> Attempt:
    """Whether a TCP connection can be made."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S):
            return _attempt(f"TCP {address}", True, "connected")
    except OSError as error:
        return _attempt(f"TCP {address}", False, str(error))


def try_dns_server(address: str) -> Attempt:
    """Whether a name server of the outside answers by UDP: data can be carried out in questions."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.sendto(_QUESTION, (host.strip("[]"), int(port)))
            sock.recv(512)
        return _attempt(f"UDP {address}", True, "a name server answered")
    except OSError as error:
        return _attempt(f"UDP {address}", False, str(error))


def probe(
    names: Sequence[str] = NAMES,
    addresses: Sequence[str] = ADDRESSES,
    dns_servers: Sequence[str] = DNS_SERVERS,
) -> list[Attempt]:
    """All attempts, side by side."""
    work: list[tuple[Callable[[str], Attempt], str]] = [(try_name, n) for n in names] + [
        (try_address, a) for a in addresses
    ]
    work += [(try_dns_server, s) for s in dns_servers]
    with ThreadPoolExecutor(max_workers=max(1, len(work))) as pool:
        return [future.result() for future in [pool.submit(how, what) for how, what in work]]


def _attempt(target: str, through: bool, detail: str) -> Attempt:
    return {"target": target, "through": through, "detail": detail}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe()) + "\n")
