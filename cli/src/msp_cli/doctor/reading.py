"""What the outputs of commands and the answers of services mean. Pure: text in, facts or an Unknown out."""

import json
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from msp_cli.doctor.facts import Compose, ComposeService, Container, Disk, Engine, HealthAnswer, Listener
from msp_cli.doctor.site import Answer, Ran, Unknown
from msp_cli.plan.inventory import BadInventory, PlanGpu, read_inventory
from msp_common.contracts.base import Contract

C = TypeVar("C", bound=Contract)

_PROCESS = re.compile(r'\("([^"]+)",pid=(\d+)')


def output(ran: Ran | Unknown, what: str) -> str | Unknown:
    """Standard output of a command that ended well."""
    if isinstance(ran, Unknown):
        return ran
    if ran.code:
        said = (ran.err or ran.out).strip() or f"exit code {ran.code}"
        return Unknown(f"{what} failed: {said[:600]}")
    return ran.out


def gpus(ran: Ran | Unknown) -> list[PlanGpu] | Unknown:
    """Those that nvidia-smi lists."""
    text = output(ran, "nvidia-smi")
    if isinstance(text, Unknown):
        return text
    try:
        return read_inventory(text)
    except BadInventory as error:
        return Unknown(f"nvidia-smi: {error}")


def engine(ran: Ran | Unknown) -> Engine | Unknown:
    """The engine behind `docker info`, which ends well even where only the client is there."""
    found = _json(output(ran, "docker info"), "docker info")
    if isinstance(found, Unknown):
        return found
    if errors := found.get("ServerErrors"):
        return Unknown("; ".join(str(error) for error in errors))
    if not found.get("ServerVersion"):
        return Unknown("docker info tells of no engine")
    devices = found.get("DiscoveredDevices") or []
    return Engine(
        version=str(found["ServerVersion"]),
        runtimes=frozenset(found.get("Runtimes") or {}),
        root=str(found.get("DockerRootDir") or "/var/lib/docker"),
        cgroup_driver=str(found.get("CgroupDriver") or ""),
        has_cdi_gpus=any("nvidia.com/gpu" in str(device) for device in devices),
        default_runtime=str(found.get("DefaultRuntime") or "runc"),
    )


def compose(ran: Ran | Unknown) -> Compose | Unknown:
    """A configuration with all variables filled in."""
    found = _json(output(ran, "docker compose config"), "docker compose config")
    if isinstance(found, Unknown):
        return found
    services = found.get("services") or {}
    return Compose(
        str(found.get("name") or ""), {name: _service(name, body) for name, body in services.items()}
    )


def _service(name: str, body: Mapping[str, Any]) -> ComposeService:
    resources = ((body.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    devices = resources.get("devices") or []
    environment = {
        key: "" if value is None else str(value) for key, value in (body.get("environment") or {}).items()
    }
    return ComposeService(
        name=name,
        environment=environment,
        device_ids=_device_ids(devices),
        runtime=str(body.get("runtime") or "runc"),
        published=tuple(
            (str(port.get("host_ip") or "0.0.0.0"), int(port["published"]))
            for port in body.get("ports") or ()
            if str(port.get("published") or "").isdigit()
        ),
    )


def _device_ids(devices: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One text may name several, with commas, as a variable of .env does; Docker hands it on as it is."""
    texts = [str(text) for device in devices for text in device.get("device_ids") or ()]
    return tuple(gpu.strip() for text in texts for gpu in text.split(","))


def containers(ran: Ran | Unknown) -> list[Container] | Unknown:
    """Those that `docker inspect` tells of; no output means that there are none."""
    text = output(ran, "docker inspect")
    if isinstance(text, Unknown):
        return text
    try:
        return [_container(body) for body in json.loads(text or "[]")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Unknown(f"docker inspect printed what cannot be read: {error}")


def _container(body: Mapping[str, Any]) -> Container:
    config, state = body["Config"], body["State"]
    labels = config.get("Labels") or {}
    ports = (body.get("HostConfig") or {}).get("PortBindings") or {}
    return Container(
        name=str(body["Name"]).lstrip("/"),
        service=str(labels.get("com.docker.compose.service") or ""),
        project=str(labels.get("com.docker.compose.project") or ""),
        image=str(config.get("Image") or ""),
        status=str(state.get("Status") or "unknown"),
        exit_code=int(state.get("ExitCode") or 0),
        health=(state.get("Health") or {}).get("Status"),
        restarts=int(body.get("RestartCount") or 0),
        config_files=str(labels.get("com.docker.compose.project.config_files") or ""),
        published=tuple(
            (str(binding.get("HostIp") or "0.0.0.0"), int(binding["HostPort"]))
            for bindings in ports.values()
            for binding in bindings or ()
            if str(binding.get("HostPort") or "").isdigit()
        ),
        environment=dict(line.partition("=")[::2] for line in config.get("Env") or ()),
        oom_killed=bool(state.get("OOMKilled")),
        networks=frozenset((body.get("NetworkSettings") or {}).get("Networks") or {}),
    )


def listeners(ran: Ran | Unknown) -> list[Listener] | Unknown:
    """Those of `ss -ltnpH`; the process is told to its owner and to root alone."""
    text = output(ran, "ss")
    if isinstance(text, Unknown):
        return text
    found = []
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 4 or not fields[3].rpartition(":")[2].isdigit():
            continue
        address, _, port = fields[3].rpartition(":")
        process = _PROCESS.search(fields[5]) if len(fields) > 5 else None
        named = f"{process[1]} (process {process[2]})" if process else None
        found.append(Listener(address.strip("[]").partition("%")[0], int(port), named))
    return found


def disks(ran: Ran | Unknown) -> list[Disk] | Unknown:
    """Those of `df -Pk`, which ends with 1 when any one of them cannot be asked."""
    if isinstance(ran, Ran) and ran.out:
        ran = Ran(0, ran.out, "")
    text = output(ran, "df")
    if isinstance(text, Unknown):
        return text
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[1].isdigit() and fields[3].lstrip("-").isdigit():
            found.append(Disk(fields[5], int(fields[1]) * 1024, max(0, int(fields[3])) * 1024))
    return found or Unknown("df lists no file system")


def yes_or_no(ran: Ran | Unknown, what: str) -> bool | Unknown:
    """A command that prints `yes` or `no`."""
    text = output(ran, what)
    if isinstance(text, Unknown):
        return text
    word = text.strip().lower()
    return word == "yes" if word in ("yes", "no") else Unknown(f"{what} printed {word[:100]!r}")


def contract(kind: type[C], answer: Answer | Unknown, url: str) -> C | Unknown:
    """A service's answer as one of our contracts."""
    if isinstance(answer, Unknown):
        return answer
    if answer.status != 200:
        return Unknown(f"{url} answered {answer.status}: {answer.body[:200].strip()}")
    try:
        return kind.model_validate_json(answer.body)
    except ValidationError:
        return Unknown(f"{url} answered what is none of this platform's answers")


def health(answer: Answer | Unknown, url: str) -> HealthAnswer | Unknown:
    """A program's health; 503 is an answer too."""
    if isinstance(answer, Unknown):
        return answer
    try:
        body = json.loads(answer.body)
        return HealthAnswer(
            status=str(body["status"]),
            reason=body.get("reason"),
            parts={n: (str(p["status"]), p.get("reason")) for n, p in (body.get("parts") or {}).items()},
            authentication=body.get("authentication"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Unknown(f"{url} answered {answer.status} with something that is no health report")


def clock_ahead_s(answer: Answer | Unknown, now: float) -> float | Unknown:
    """How far the answering machine's clock is ahead of ours."""
    if isinstance(answer, Unknown):
        return answer
    if not answer.date:
        return Unknown("its answer has no Date")
    try:
        return parsedate_to_datetime(answer.date).timestamp() - now
    except ValueError:
        return Unknown(f"its answer has the Date {answer.date[:60]!r}")


def _json(text: str | Unknown, what: str) -> dict[str, Any] | Unknown:
    if isinstance(text, Unknown):
        return text
    try:
        found = json.loads(text)
    except ValueError as error:
        return Unknown(f"{what} printed no JSON: {error}")
    return found if isinstance(found, dict) else Unknown(f"{what} printed no JSON object")
