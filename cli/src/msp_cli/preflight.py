"""What must be true before anything is started."""

import contextlib
import errno
import importlib.util
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from msp_cli.cluster_file import Cluster, ServiceSpec

_CGROUP = Path("/sys/fs/cgroup")


def problems(cluster: Cluster) -> list[str]:
    """All reasons why this cluster cannot be started here, for people; empty if there is none."""
    found = [*service_problems(cluster.services), *_missing_folders(cluster)]
    available = available_memory_bytes()
    if available is not None and available < cluster.memory_needed_bytes:
        found.append(
            f"too little memory: {_gib(cluster.memory_needed_bytes)} are needed, {_gib(available)} are "
            "available; end other programs, or describe a smaller cluster"
        )
    return found


def service_problems(services: Mapping[str, ServiceSpec]) -> list[str]:
    """The reasons that lie in single services: programs that are not installed, ports that are taken."""
    return [*_missing_modules(services), *_taken_ports(services)]


def port_holder(port: int) -> str | None:
    """The process that listens on a TCP port, for people; None where `/proc` does not tell."""
    inodes = _listening_inodes(port)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        # Processes end while we look, and those of others keep their files to themselves.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor) in inodes:
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    return f"process {process.name} ({command.strip()[:100]})"
    return None


def available_memory_bytes() -> int | None:
    """Memory that new processes can have: the machine's, or the control group's where that is less."""
    limits = [
        _machine_memory(),
        _cgroup_memory(_CGROUP, "memory.max", "memory.current"),
        _cgroup_memory(_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def _missing_modules(services: Mapping[str, ServiceSpec]) -> Iterable[str]:
    for module in sorted({service.module_name for service in services.values()}):
        try:
            spec = importlib.util.find_spec(module)
        except ImportError:  # of a package that holds it
            spec = None
        if spec is None:
            users = ", ".join(name for name, service in services.items() if service.module_name == module)
            yield (
                f"Python module {module} (for {users}) is not installed in {sys.executable}; "
                "./scripts/quickstart.sh makes an environment that has all"
            )


def _missing_folders(cluster: Cluster) -> Iterable[str]:
    for model_id, model in cluster.models.items():
        if not Path(model.folder).is_dir():
            yield f"model {model_id}: there is no folder {model.folder}"


def _taken_ports(services: Mapping[str, ServiceSpec]) -> Iterable[str]:
    for name, service in services.items():
        with socket.socket(socket.AF_INET6 if ":" in service.host else socket.AF_INET) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((service.host, service.port))
                sock.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    yield f"{name} cannot listen on {service.host}:{service.port}: {error.strerror}"
                else:
                    holder = port_holder(service.port) or "another process"
                    yield f"port {service.port} (for {name}) is in use by {holder}"


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _machine_memory() -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _cgroup_memory(group: Path, limit: str, used: str) -> int | None:
    """What a control group has left, file caches that can be dropped included; None without a limit."""
    try:
        left = int((group / limit).read_text()) - int((group / used).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, left + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
