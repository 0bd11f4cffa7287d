"""Run by a `runc` that a test put before the real one; needs nothing but the standard library.

    egress_hook.py add BUNDLE REGISTER CONTAINERS    makes itself a hook of a container that is being created
    egress_hook.py hook REGISTER CONTAINERS          the hook: the container's state comes on standard input

The hook writes down the container's name and addresses. A container on internal networks only gets a default
route to the machine: what it sends out is then dropped there, where it is seen, and not by itself.
"""

import ipaddress
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def add(bundle: Path, register: str, containers: str) -> None:
    """Appends the hook, so that it runs when Docker's own has made the network."""
    file = bundle / "config.json"
    spec = json.loads(file.read_text())
    arguments = [sys.executable, "-I", "-S", __file__, "hook", register, containers]
    hook = {"path": sys.executable, "args": arguments, "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    spec.setdefault("hooks", {}).setdefault("prestart", []).append(hook)
    file.write_text(json.dumps(spec))


def hook(register: Path, containers: Path) -> None:
    """Before the container's program starts."""
    state = json.load(sys.stdin)
    inside = ["nsenter", "-t", str(state["pid"]), "-n"]
    addresses = _addresses(inside)
    if addresses and not _ip([*inside, "ip", "-j", "route", "show", "default"]):
        bridges = {network: address for address, network in _addresses([])}
        for _, network in addresses:
            if network in bridges:
                command = [*inside, "ip", "route", "add", "default", "via", bridges[network]]
                subprocess.run(command, check=True, capture_output=True)
                break
    line = {"name": _name(containers, state["id"]), "addresses": [address for address, _ in addresses]}
    with register.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _addresses(where: list[str]) -> list[tuple[str, str]]:
    """Each address with its network; the loopback's left out."""
    found = []
    for interface in _ip([*where, "ip", "-j", "addr", "show"]):
        for info in interface.get("addr_info", []):
            address = ipaddress.ip_interface(f"{info['local']}/{info['prefixlen']}")
            if interface["ifname"] != "lo" and address.version == 4:
                found.append((str(address.ip), str(address.network)))
    return found


def _name(containers: Path, id: str) -> str:
    try:
        name: str = json.loads((containers / id / "config.v2.json").read_text())["Name"]
    except (OSError, ValueError, KeyError):
        return id[:12]
    return name.removeprefix("/")


def _ip(command: list[str]) -> list[dict[str, Any]]:
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: list[dict[str, Any]] = json.loads(printed or "[]")
    return found


if __name__ == "__main__":
    if sys.argv[1] == "add":
        add(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        hook(Path(sys.argv[2]), Path(sys.argv[3]))
