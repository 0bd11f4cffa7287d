"""The host: ports, room on its disks, who may read what, its clock."""

from msp_cli.doctor.facts import Disk, Facts, Listener
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown, warning
from msp_cli.doctor.site import Unknown

LOW_BYTES = 20 * 2**30
"""Less than this is told of: the workers' image alone has 6 GB, a model of 7 billion parameters 14 GB."""

FULL_BYTES = 2 * 2**30

CONTAINER_UID = 10001
"""The account that the platform's containers run under."""

SKEW_WARNING_S = 5.0
SKEW_PROBLEM_S = 300.0
"""A store refuses signatures that are a quarter of an hour off; certificates and jobs suffer before."""

_WILD = frozenset({"0.0.0.0", "::", "*", ""})


def check_ports(facts: Facts) -> list[Finding]:
    """Whether a port that compose publishes is held by somebody else."""
    compose = facts.compose
    if isinstance(compose, Unknown):
        return [unknown(Code.PORT_IN_USE, f"the ports are not known: {compose.why}")]
    if isinstance(facts.listeners, Unknown):
        return [unknown(Code.PORT_IN_USE, facts.listeners.why)]
    findings = [
        finding
        for service in compose.services.values()
        for address, port in service.published
        if (finding := _port(facts, service.name, address, port, facts.listeners))
    ]
    ports = sum(len(service.published) for service in compose.services.values())
    return findings or [ok(Code.PORT_IN_USE, f"no other program holds one of the {ports} published ports")]


def _port(facts: Facts, service: str, address: str, port: int, listeners: list[Listener]) -> Finding | None:
    if any(c.runs and (p == port) for c in facts.ours for _, p in c.published):
        return None
    held = next((s for s in listeners if s.port == port and _clash(s.address, address)), None)
    if held is None:
        return None
    others = [] if isinstance(facts.containers, Unknown) else facts.containers
    other = next((c for c in others if c.runs and any(p == port for _, p in c.published)), None)
    if other is not None:
        return problem(
            Code.PORT_IN_USE,
            f"port {port} (for {service}) is held by the container {other.name}",
            f"docker stop {other.name}, or publish {service} on another port",
        )
    return problem(
        Code.PORT_IN_USE,
        f"port {port} (for {service}) is held by {held.process or 'another program'} on {held.address}",
        f"find it with: sudo ss -ltnp 'sport = :{port}'; a cluster of local processes ends with "
        "./scripts/quickstart.sh --stop, another stack with docker compose down",
    )


def _clash(one: str, other: str) -> bool:
    return one == other or bool({one, other} & _WILD)


def check_disk(facts: Facts) -> list[Finding]:
    """Room where Docker keeps images and volumes, and where this folder is."""
    if isinstance(facts.disks, Unknown):
        return [unknown(Code.LOW_DISK, facts.disks.why)]
    places = {"this folder": facts.root}
    if not isinstance(facts.engine, Unknown):
        places["Docker's data"] = facts.engine.root
    findings: dict[str, Finding] = {}
    for what, path in places.items():
        disk = _disk_of(facts.disks, path)
        if disk is not None and disk.mount not in findings:
            findings[disk.mount] = _room(what, path, disk)
    return list(findings.values()) or [
        unknown(Code.LOW_DISK, "df lists no file system that holds this folder")
    ]


def _room(what: str, path: str, disk: Disk) -> Finding:
    free = f"{disk.free_bytes / 2**30:.1f} GiB of {disk.total_bytes / 2**30:.0f} are free"
    said = f"{what} ({path}, on {disk.mount}): {free}"
    remedy = (
        "docker system df tells what takes the room; docker image prune removes images that nobody uses, "
        "msp models gc --apply what no model needs; MODEL_CACHE_LIMIT_BYTES bounds the workers' cache"
    )
    if disk.free_bytes < FULL_BYTES:
        return problem(Code.LOW_DISK, said, remedy)
    if disk.free_bytes < LOW_BYTES:
        return warning(Code.LOW_DISK, said, remedy)
    return ok(Code.LOW_DISK, said)


def _disk_of(disks: list[Disk], path: str) -> Disk | None:
    holding = [disk for disk in disks if (path + "/").startswith(disk.mount.rstrip("/") + "/")]
    return max(holding, key=lambda disk: len(disk.mount), default=None)


def check_permissions(facts: Facts) -> list[Finding]:
    """Secrets that others may read, and files that containers may not."""
    findings = []
    env = facts.env_path
    if not isinstance(env, Unknown) and env.mode & 0o077:
        findings.append(
            warning(
                Code.WRONG_PERMISSIONS,
                f".env holds secrets, and others on this host may open it (mode {env.mode & 0o777:o})",
                "chmod 600 .env",
            )
        )
    for path, found in facts.paths.items():
        if isinstance(found, Unknown):
            if found.absent:
                findings.append(
                    problem(
                        Code.WRONG_PERMISSIONS,
                        f"{path}, which .env names, is not there",
                        "correct the path in .env; Docker would make an empty folder of that name",
                    )
                )
            else:
                findings.append(unknown(Code.WRONG_PERMISSIONS, f"{path}: {found.why}"))
            continue
        needed = 0o005 if found.is_folder else 0o004
        if found.mode & needed != needed and found.uid != CONTAINER_UID:
            findings.append(
                problem(
                    Code.WRONG_PERMISSIONS,
                    f"{path} (mode {found.mode & 0o777:o}) cannot be read by the containers' account "
                    f"{CONTAINER_UID}",
                    f"chmod {'-R o+rX' if found.is_folder else 'o+r'} {path}",
                )
            )
    if findings:
        return findings
    if isinstance(env, Unknown):
        if env.absent:
            return [ok(Code.WRONG_PERMISSIONS, "there is no .env whose secrets others could read")]
        return [unknown(Code.WRONG_PERMISSIONS, f".env: {env.why}")]
    return [ok(Code.WRONG_PERMISSIONS, ".env is private, and what it names can be read by the containers")]


def check_clock(facts: Facts) -> list[Finding]:
    """This host's clock against a time server, and against those of the other machines."""
    findings = []
    for name, ahead in facts.clocks.items():
        if isinstance(ahead, Unknown) or abs(ahead) < SKEW_WARNING_S:
            continue
        said = (
            f"the clock of {name} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
        )
        remedy = "let all hosts follow one time server (chrony; in the air gap one host of your own)"
        findings.append((problem if abs(ahead) >= SKEW_PROBLEM_S else warning)(Code.CLOCK_SKEW, said, remedy))
    if facts.clock_synchronised is False:
        findings.append(
            warning(
                Code.CLOCK_SKEW,
                "this host's clock follows no time server",
                "timedatectl set-ntp true, or chrony with a server of your own network",
            )
        )
    if findings:
        return findings
    compared = [name for name, ahead in facts.clocks.items() if not isinstance(ahead, Unknown)]
    if isinstance(facts.clock_synchronised, Unknown) and not compared:
        return [unknown(Code.CLOCK_SKEW, f"{facts.clock_synchronised.why}; and no service tells its time")]
    told = f"as {', '.join(compared)} tell" if compared else "no service was asked"
    kept = "" if isinstance(facts.clock_synchronised, Unknown) else ", and it follows a time server"
    return [ok(Code.CLOCK_SKEW, f"this host's clock is right, {told}{kept}")]
