"""Who may register a worker, and so be sent other people's prompts."""

from msp_cli.doctor.facts import LOOPBACK, Container, Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown, warning
from msp_cli.doctor.site import Unknown

SERVICE = "service-registry"
PORT = 8081
_REMEDY = (
    "REGISTRATION_NEEDS_TOKEN=yes in .env (with a CLUSTER_TOKEN there), `CLUSTER_TOKEN: ${CLUSTER_TOKEN}` in "
    "the environment of each worker that you added, then docker compose up -d"
)


def check(facts: Facts) -> list[Finding]:
    """Whether a stranger who reaches the service registry could register as a worker."""
    token = _token(facts)
    if isinstance(token, Unknown):
        return [_without_docker(facts) or unknown(Code.OPEN_REGISTRATION, token.why)]
    if token:
        return [ok(Code.OPEN_REGISTRATION, "a worker needs CLUSTER_TOKEN to register")]
    if facts.settings.get("REGISTRATION_NEEDS_TOKEN"):
        return [
            problem(
                Code.OPEN_REGISTRATION,
                "REGISTRATION_NEEDS_TOKEN is set in .env, and CLUSTER_TOKEN is empty: none is asked for",
                "CLUSTER_TOKEN=$(openssl rand -hex 24) in .env, then docker compose up -d",
            )
        ]
    ways = [*_published(facts), *_neighbours(facts)]
    if not ways:
        return [
            ok(Code.OPEN_REGISTRATION, "workers register without a token, within this stack's networks alone")
        ]
    return [
        warning(
            Code.OPEN_REGISTRATION,
            f"workers register without a token, and the service registry can be reached {way}: whoever is "
            "there may register as one of your models and read prompts",
            _REMEDY,
        )
        for way in ways
    ]


def _running(facts: Facts) -> list[Container]:
    return [c for c in facts.ours if c.runs and c.service == SERVICE]


def _token(facts: Facts) -> str | Unknown:
    """As the running one has it; else as it would be started."""
    if running := _running(facts):
        return running[0].environment.get("CLUSTER_TOKEN", "")
    if isinstance(facts.compose, Unknown):
        return facts.compose
    if SERVICE not in facts.compose.services:
        return Unknown("compose starts no service registry here")
    return facts.compose.services[SERVICE].environment.get("CLUSTER_TOKEN", "")


def _published(facts: Facts) -> list[str]:
    addresses = {address for c in _running(facts) for address, _ in c.published}
    if not isinstance(facts.compose, Unknown) and SERVICE in facts.compose.services:
        addresses |= {address for address, _ in facts.compose.services[SERVICE].published}
    return [f"at {address or '0.0.0.0'}, where its port is published" for address in sorted(addresses)]


def _neighbours(facts: Facts) -> list[str]:
    """Containers of other stacks on one of its networks."""
    if isinstance(facts.containers, Unknown):
        return []
    networks = {network for c in _running(facts) for network in c.networks}
    projects = {c.project for c in facts.ours}
    others = [c for c in facts.containers if c.runs and c.project not in projects and c.networks & networks]
    if not others:
        return []
    shared = ", ".join(sorted(network for network in networks if any(network in c.networks for c in others)))
    names = ", ".join(sorted(c.name for c in others))
    return [f"by {names}, which share the network {shared}"]


def _without_docker(facts: Facts) -> Finding | None:
    """Of local processes it is known where they listen, but not their token."""
    if facts.ours or isinstance(facts.listeners, Unknown):
        return None
    heard = [listener.address for listener in facts.listeners if listener.port == PORT]
    open_on = [address for address in heard if not address.startswith(LOOPBACK)]
    if not heard:
        return ok(Code.OPEN_REGISTRATION, f"nobody listens at port {PORT} of this host")
    if not open_on:
        return ok(Code.OPEN_REGISTRATION, "the service registry can be reached from this host alone")
    return warning(
        Code.OPEN_REGISTRATION,
        f"port {PORT} is open on {', '.join(open_on)}; without CLUSTER_TOKEN whoever reaches it may register "
        "as one of your models and read prompts",
        "CLUSTER_TOKEN for all programs, or SERVICE_REGISTRY_HOST=127.0.0.1",
    )
