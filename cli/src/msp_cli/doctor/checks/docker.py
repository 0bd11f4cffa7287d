"""Docker itself: there, reachable, new enough."""

import re

from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown
from msp_cli.doctor.site import Unknown

LEAST_ENGINE = (20, 10)
LEAST_COMPOSE = (2, 24)
"""`!reset` and `!override`, which the compose files use."""


def check(facts: Facts) -> list[Finding]:
    """One finding for the engine, one for compose."""
    return [_engine(facts), *_compose(facts)]


def _engine(facts: Facts) -> Finding:
    engine = facts.engine
    if not isinstance(engine, Unknown):
        if _version(engine.version) < LEAST_ENGINE:
            return problem(
                Code.DOCKER,
                f"the Docker engine is {engine.version}",
                f"install {_dotted(LEAST_ENGINE)} or newer",
            )
        return ok(Code.DOCKER, f"Docker engine {engine.version}")
    if engine.absent:
        return unknown(
            Code.DOCKER,
            f"{engine.why}; what needs Docker is not looked at",
            "install Docker, or run ./scripts/msp doctor on the host that has it",
        )
    if "permission denied" in engine.why.lower():
        return problem(
            Code.DOCKER,
            f"this account may not use Docker: {engine.why}",
            "sudo usermod -aG docker $USER, and log in again; membership is as good as root",
        )
    return problem(
        Code.DOCKER,
        f"the Docker engine gives no answer: {engine.why}",
        "sudo systemctl start docker; then journalctl -u docker tells why it ended",
    )


def _compose(facts: Facts) -> list[Finding]:
    version = facts.compose_version
    if isinstance(version, Unknown):
        if isinstance(facts.engine, Unknown):
            return []
        return [
            problem(
                Code.DOCKER,
                f"docker compose is not there: {version.why}",
                "install the compose plugin (package docker-compose-plugin); docker-compose 1.x does not do",
            )
        ]
    number = _version(version)
    # A build of one's own tells no number.
    if number and number < LEAST_COMPOSE:
        return [
            problem(
                Code.DOCKER,
                f"docker compose is {version}, which does not know `!reset` and `!override`",
                f"install the compose plugin {_dotted(LEAST_COMPOSE)} or newer",
            )
        ]
    return [ok(Code.DOCKER, f"docker compose {version}")]


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
