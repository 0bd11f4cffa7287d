"""The running platform: gateway, registry, store, workers, models, keys."""

from urllib.parse import urlsplit

from msp_cli.doctor.facts import LOOPBACK, Compose, Container, Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown, warning
from msp_cli.doctor.site import Unknown
from msp_common.contracts.workers import ServiceStatus

_WRONG_SECRET = ("accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "access key")


def check_gateway(facts: Facts) -> list[Finding]:
    """Whether the gateway answers, and can do its job."""
    gateway = facts.gateway
    if not isinstance(gateway, Unknown):
        said = f"the gateway is {gateway.status}" + (f": {gateway.reason}" if gateway.reason else "")
        if gateway.status == "ok":
            return [ok(Code.GATEWAY_UNREACHABLE, said)]
        remedy = "msp status tells how each worker is"
        make = problem if gateway.status == "down" else warning
        return [make(Code.GATEWAY_UNREACHABLE, said, remedy)]
    if not facts.ours:
        if isinstance(facts.containers, Unknown):
            return [
                unknown(
                    Code.GATEWAY_UNREACHABLE,
                    f"the gateway does not answer ({gateway.why}), and whether it was started is not known",
                    "start the platform, or name the gateway's address with --gateway",
                )
            ]
        return [unknown(Code.GATEWAY_UNREACHABLE, "the platform is not running", "docker compose up -d")]
    return [
        problem(
            Code.GATEWAY_UNREACHABLE,
            f"the gateway does not answer: {gateway.why}",
            "docker compose ps gateway, then docker compose logs gateway; it waits for registry and "
            "service-registry to be healthy",
        )
    ]


def check_store(facts: Facts) -> list[Finding]:
    """Whether the registry reaches its store."""
    registry = facts.registry
    if isinstance(registry, Unknown):
        if not facts.runs:
            return [unknown(Code.STORE_UNREACHABLE, "the platform is not running")]
        stopped = [c for c in facts.ours if c.service in ("minio", "registry") and not c.runs]
        if stopped:
            names = ", ".join(f"{c.service} ({c.status})" for c in stopped)
            return [
                problem(
                    Code.STORE_UNREACHABLE,
                    f"the registry does not answer, and these do not run: {names}",
                    f"docker compose logs {stopped[0].service}; then docker compose up -d",
                )
            ]
        return [unknown(Code.STORE_UNREACHABLE, f"the registry does not tell: {registry.why}")]
    status, reason = registry.parts.get("store", (registry.status, registry.reason))
    if status == "ok":
        return [ok(Code.STORE_UNREACHABLE, "the registry reaches its store")]
    remedy = "docker compose ps minio; docker compose logs minio; check MINIO_ENDPOINT in .env"
    if reason and any(sign in reason.lower().replace(" ", "") for sign in _WRONG_SECRET):
        remedy = (
            "the store's volume keeps the secrets of its first start: put those back into .env, or run "
            "docker compose up -d --force-recreate minio init-store registry with the right ones"
        )
    return [problem(Code.STORE_UNREACHABLE, f"the registry cannot use its store: {reason or status}", remedy)]


def check_services(facts: Facts) -> list[Finding]:
    """Containers that do not stay up, and workers that do not get ready."""
    findings = [finding for c in facts.ours if (finding := _container(c))]
    if isinstance(facts.services, Unknown):
        if findings:
            return findings
        if not facts.ours:
            return [
                unknown(Code.SERVICE_NOT_STARTING, "the platform is not running, or Docker does not tell")
            ]
        return [
            unknown(Code.SERVICE_NOT_STARTING, f"the gateway does not tell of workers: {facts.services.why}")
        ]
    findings += [finding for line in facts.services.services if (finding := _line(line))]
    return findings or [
        ok(Code.SERVICE_NOT_STARTING, f"all {len(facts.services.services)} programs and workers are well")
    ]


def _container(container: Container) -> Finding | None:
    name, remedy = container.service, f"docker compose logs --tail=50 {container.service}"
    if container.oom_killed:
        return problem(
            Code.SERVICE_NOT_STARTING,
            f"{name} was ended for want of memory",
            "a smaller model, fewer workers on this host (COMPOSE_PROFILES), or more memory",
        )
    if container.status == "restarting" or (container.runs and container.restarts >= 3):
        return problem(
            Code.SERVICE_NOT_STARTING,
            f"{name} ends again and again ({container.restarts} restarts, exit code {container.exit_code})",
            remedy,
        )
    if container.status in ("exited", "dead") and container.exit_code:
        return problem(
            Code.SERVICE_NOT_STARTING, f"{name} has ended with exit code {container.exit_code}", remedy
        )
    if container.status == "created":
        return problem(
            Code.SERVICE_NOT_STARTING,
            f"{name} was made and never started, as when its port or GPU is not to be had",
            f"docker compose up -d {name} says why",
        )
    return None


def _line(line: ServiceStatus) -> Finding | None:
    why = f": {line.reason}" if line.reason else ""
    if line.status in ("failed", "unhealthy", "down"):
        return problem(
            Code.SERVICE_NOT_STARTING,
            f"{line.name} is {line.status}{why}",
            "the reason says what is lacking; docker compose logs of that service has the rest",
        )
    if line.status in ("suspect", "degraded"):
        return warning(
            Code.SERVICE_NOT_STARTING, f"{line.name} is {line.status}{why}", "look again in a minute"
        )
    return None


def check_models(facts: Facts) -> list[Finding]:
    """Whether the registry holds what the workers are to serve."""
    if isinstance(facts.models, Unknown):
        why = (
            f"the registry does not tell: {facts.models.why}" if facts.runs else "the platform is not running"
        )
        return [unknown(Code.MODEL_MISSING, why)]
    wanted = _wanted(facts)
    if isinstance(wanted, Unknown):
        return [unknown(Code.MODEL_MISSING, wanted.why)]
    held = {model.id for model in facts.models.models}
    offline = facts.settings.get("REGISTRY_MODE") == "offline"
    fetches = facts.settings.get("AUTO_DOWNLOAD", "true") == "true" and not offline
    findings = [
        (warning if fetches else problem)(
            Code.MODEL_MISSING,
            f"{model} (for {', '.join(services)}) is not in the registry"
            + (", and will be downloaded when its worker starts" if fetches else ""),
            f"msp models import {model} FOLDER (the registry is offline)"
            if offline
            else f"msp models pull {model}; a gated model needs HF_TOKEN",
        )
        for model, services in wanted.items()
        if model not in held
    ]
    findings += [
        problem(
            Code.MODEL_MISSING,
            f"{model.id} has damaged files, which are not served",
            f"msp models verify {model.id}",
        )
        for model in facts.models.models
        if model.quarantined
    ]
    return findings or [
        ok(Code.MODEL_MISSING, f"all {len(wanted)} models that workers serve are in the registry")
    ]


def _wanted(facts: Facts) -> dict[str, list[str]] | Unknown:
    """Model id → who serves it, as the running workers say, and the compose file."""
    found: dict[str, list[str]] = {}
    if isinstance(facts.compose, Compose) and (facts.ours or isinstance(facts.services, Unknown)):
        for service in facts.compose.services.values():
            if model := service.environment.get("MODEL_NAME"):
                found.setdefault(model, []).append(service.name)
    elif not isinstance(facts.services, Unknown):
        for line in facts.services.services:
            # A server that is none of ours brings its own weights.
            if line.model is not None and line.version is not None:
                found.setdefault(line.model.id, []).append(line.name)
    else:
        return Unknown("neither compose nor the gateway tells which models are wanted")
    return found


def check_keys(facts: Facts) -> list[Finding]:
    """Whether whoever reaches the gateway's port may use every model."""
    gateway = facts.gateway
    if isinstance(gateway, Unknown):
        return [unknown(Code.NO_API_KEY, "the gateway does not answer")]
    if gateway.authentication is None:
        return [unknown(Code.NO_API_KEY, "the gateway does not tell whether it asks for a key")]
    if gateway.authentication == "on":
        return [ok(Code.NO_API_KEY, "the gateway asks for an API key")]
    open_on = [address for address in _published_on(facts) if not address.startswith(LOOPBACK)]
    if not open_on:
        return [
            ok(Code.NO_API_KEY, "the gateway asks for no API key, and can be reached from this host alone")
        ]
    address = ", ".join(open_on)
    return [
        warning(
            Code.NO_API_KEY,
            f"the gateway asks for no API key, and its port is open on {address}: whoever reaches this host "
            "may use every model",
            "msp keys create --name ME (the first key closes the port to everybody else), or "
            "GATEWAY_BIND_ADDRESS=127.0.0.1 in .env",
        )
    ]


def _published_on(facts: Facts) -> list[str]:
    """Addresses of this host that the gateway can be reached at."""
    port = urlsplit(facts.gateway_url).port
    if not facts.ours and not isinstance(facts.listeners, Unknown):
        heard = [listener.address for listener in facts.listeners if listener.port == port]
        if heard:
            return heard
    return [facts.settings.get("GATEWAY_BIND_ADDRESS") or "0.0.0.0"]
