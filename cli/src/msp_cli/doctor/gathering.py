"""All facts of an installation, asked of a Site once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from msp_cli.doctor import reading
from msp_cli.doctor.facts import ChatUi, Compose, Facts
from msp_cli.doctor.site import Answer, Site, Unknown
from msp_cli.plan.env_file import read_env
from msp_common.contracts.gpus import GpuStats
from msp_common.contracts.jobs import JobList
from msp_common.contracts.models import ModelList
from msp_common.contracts.workers import Services

DEFAULT_GATEWAY = "http://127.0.0.1:8080"
BUNDLE_ENV = "bundle.env"
CHAT_UI_ENV = "chatui.env"
CHAT_UI_COMPOSE = "docker-compose.chatui.yml"
_IMAGE = re.compile(r"^\s*image:\s*\$\{CHATUI_IMAGE:-([^}\s]+)\}\s*$", re.MULTILINE)
_NVIDIA = "0x10de"


@dataclass(frozen=True)
class Addresses:
    """Where the programs are, as seen from here."""

    gateway: str
    registry: str


def addresses_of(site: Site, gateway: str, registry: str) -> Addresses:
    """Where nobody said otherwise, the gateway is on this host, with TLS if .env gives it a certificate."""
    text = site.read(".env")
    has_tls = not isinstance(text, Unknown) and bool(read_env(text).get("GATEWAY_TLS_CERT"))
    if gateway == DEFAULT_GATEWAY and has_tls:
        gateway = gateway.replace("http:", "https:")
    return Addresses(gateway.rstrip("/"), registry.rstrip("/"))


def gather(site: Site, root: str, addresses: Addresses, *, cluster: bool = False) -> Facts:
    """What can be known now. Takes as long as its slowest command; changes nothing."""
    env_text = site.read(".env")
    env = _settings(site, env_text)
    settings = {} if isinstance(env, Unknown) else env
    example = site.read(".env.example")
    pci = reading.output(site.run("pci-vendors"), "reading /sys/bus/pci")
    containers = reading.containers(site.run("containers"))
    gateway_health = site.get(f"{addresses.gateway}/health")
    registry_health = site.get(f"{addresses.registry}/health")
    services = reading.contract(
        Services, site.get(f"{addresses.gateway}/services"), f"{addresses.gateway}/services"
    )
    ca = settings.get("EXTRA_CA_FILE")
    named = [settings.get(name) for name in ("EXTRA_CA_FILE", "IMPORT_DIR")]
    return Facts(
        root=root,
        gateway_url=addresses.gateway,
        cluster_asked=cluster or "gpu-cluster" in settings.get("COMPOSE_FILE", ""),
        gpus=reading.gpus(site.run("nvidia-smi")),
        has_nvidia_card=pci if isinstance(pci, Unknown) else _NVIDIA in pci,
        engine=reading.engine(site.run("docker-info")),
        compose_version=_stripped(reading.output(site.run("compose-version"), "docker compose version")),
        standard=reading.compose(site.run("compose-config")),
        cluster=reading.compose(site.run("cluster-config")),
        containers=containers,
        listeners=reading.listeners(site.run("listening")),
        disks=reading.disks(site.run("disks")),
        clock_synchronised=reading.yes_or_no(site.run("clock"), "timedatectl"),
        clocks=_clocks(site, services, gateway_health, registry_health),
        env=env,
        env_text="" if isinstance(env_text, Unknown) else env_text,
        env_path=site.stat(".env"),
        example=example if isinstance(example, Unknown) else read_env(example),
        paths={path: site.stat(path) for path in named if path},
        ca_text=site.read(ca) if ca else None,
        gateway=reading.health(gateway_health, f"{addresses.gateway}/health"),
        services=services,
        gpu_stats=reading.contract(
            GpuStats, site.get(f"{addresses.gateway}/gpu-stats"), f"{addresses.gateway}/gpu-stats"
        ),
        registry=reading.health(registry_health, f"{addresses.registry}/health"),
        models=reading.contract(
            ModelList, site.get(f"{addresses.registry}/models"), f"{addresses.registry}/models"
        ),
        jobs=reading.contract(JobList, site.get(f"{addresses.registry}/jobs"), f"{addresses.registry}/jobs"),
        chat_uis=_chat_uis(site, containers, settings),
    )


def _settings(site: Site, env_text: str | Unknown) -> Mapping[str, str] | Unknown:
    """Those of .env; where a release was imported across the air gap, its own win, as they do for compose."""
    if isinstance(env_text, Unknown):
        return env_text
    release = site.read(BUNDLE_ENV)
    return read_env(env_text) | ({} if isinstance(release, Unknown) else read_env(release))


def _stripped(text: str | Unknown) -> str | Unknown:
    return text if isinstance(text, Unknown) else text.strip().lstrip("v")


def _clocks(
    site: Site, services: Services | Unknown, gateway: Answer | Unknown, registry: Answer | Unknown
) -> dict[str, float | Unknown]:
    """Workers on other hosts have their own clocks; those on this host's inner network are out of reach."""
    now = site.now()
    found = {
        "gateway": reading.clock_ahead_s(gateway, now),
        "registry": reading.clock_ahead_s(registry, now),
    }
    if isinstance(services, Unknown):
        return found
    for line in services.services:
        # A name without a dot is a container's; only its own network knows it.
        if line.kind == "worker" and line.url and "." in line.url:
            answer = site.get(f"{line.url}/livez")
            found[line.name] = reading.clock_ahead_s(answer, site.now())
    return found


def _chat_uis(site: Site, containers: object, settings: Mapping[str, str]) -> list[ChatUi] | Unknown:
    env = site.read(settings.get("CHATUI_ENV_FILE") or CHAT_UI_ENV)
    # The version that has this file reads it when it starts; what its container is told otherwise wins.
    file = {} if isinstance(env, Unknown) else read_env(env)
    if isinstance(containers, list):
        running = [
            ChatUi(c.service, c.image, {**(file if c.service == "chatui" else {}), **c.environment})
            for c in containers
            if c.runs and "chat-ui" in c.image
        ]
        if running:
            return running
    if isinstance(env, Unknown):
        return [] if env.absent else env
    compose = site.read(CHAT_UI_COMPOSE)
    match = None if isinstance(compose, Unknown) else _IMAGE.search(compose)
    shipped = match[1] if match else "chat-ui"
    return [ChatUi("chatui", settings.get("CHATUI_IMAGE") or shipped, file)]


def secrets_of(facts: Facts) -> list[Mapping[str, str]]:
    """Every place where a secret has a name, for taking the secrets out of what leaves the site."""
    places: list[Mapping[str, str]] = [facts.settings]
    if not isinstance(facts.chat_uis, Unknown):
        places += [ui.env for ui in facts.chat_uis]
    for compose in (facts.standard, facts.cluster):
        if isinstance(compose, Compose):
            places += [service.environment for service in compose.services.values()]
    if not isinstance(facts.containers, Unknown):
        places += [container.environment for container in facts.containers]
    return places
