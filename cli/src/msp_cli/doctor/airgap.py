"""What the attempts to reach the outside prove. Pure."""

import json
from collections.abc import Mapping

from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown
from msp_cli.doctor.site import Reached, Unknown

HOST = "host"

_OFFLINE_FORM = (
    "put docker-compose.offline.yml on top at the start, or set REGISTRY_MODE=offline and HTTPS_PROXY= "
    "in .env, then docker compose up -d registry"
)
_REMEDY = {
    True: "this host has a way out: unplug it, or let its firewall drop what leaves (nftables, output chain)",
    False: "this container's network has a way out: put it on internal networks alone, or publish it by a "
    'bridge with com.docker.network.bridge.enable_ip_masquerade: "false", as the offline form does',
}


def read_attempts(text: str) -> list[Reached] | Unknown:
    """What the probe printed."""
    try:
        found = [Reached(str(a["target"]), a["through"] is True, str(a["detail"])) for a in json.loads(text)]
    except (ValueError, KeyError, TypeError):
        return Unknown(f"the probe printed what cannot be read: {text[:200]!r}")
    # No attempt is no proof.
    return found or Unknown("the probe tried nothing")


def judge(places: Mapping[str, list[Reached] | Unknown], facts: Facts) -> list[Finding]:
    """One finding for each place. Isolation is proved where everything was tried and failed, nowhere else."""
    findings = [_place(name, attempts) for name, attempts in places.items()]
    if HOST not in places:
        findings.append(unknown(Code.EGRESS, "from the host nothing was tried"))
    missing = [c.name for c in facts.ours if c.runs and c.name not in places]
    if missing:
        findings.append(unknown(Code.EGRESS, f"nothing was tried from {', '.join(missing)}"))
    if not any(c.runs for c in facts.ours):
        findings.append(
            unknown(Code.EGRESS, "no container runs: their networks were not tried", "docker compose up -d")
        )
    return [*findings, *_settings(facts)]


def _place(name: str, attempts: list[Reached] | Unknown) -> Finding:
    where = "the host" if name == HOST else f"the network of {name}"
    if isinstance(attempts, Unknown):
        return unknown(Code.EGRESS, f"{where}: {attempts.why}")
    through = [attempt for attempt in attempts if attempt.through]
    if not through:
        return ok(Code.EGRESS, f"from {where} all {len(attempts)} attempts to reach the outside failed")
    told = "; ".join(f"{attempt.target}: {attempt.detail}" for attempt in through)
    said = f"from {where} {len(through)} of {len(attempts)} got out: {told}"
    return problem(Code.EGRESS, said, _REMEDY[name == HOST])


def _settings(facts: Facts) -> list[Finding]:
    found = []
    registry = next((c.environment for c in facts.ours if c.service == "registry" and c.runs), None)
    # The offline form of the stack overrules .env: what the container was given is what counts.
    settings = facts.settings if registry is None else registry
    if settings.get("HTTPS_PROXY"):
        found.append(
            problem(
                Code.EGRESS,
                "the registry is given HTTPS_PROXY: it may get out by that way, whatever its network allows",
                _OFFLINE_FORM,
            )
        )
    if registry is None and isinstance(facts.env, Unknown):
        found.append(unknown(Code.EGRESS, f"what .env allows: {facts.env.why}"))
    elif settings.get("REGISTRY_MODE", "online") != "offline":
        found.append(
            problem(
                Code.EGRESS,
                "REGISTRY_MODE is not offline: the registry tries to reach the Hub",
                _OFFLINE_FORM,
            )
        )
    return found
