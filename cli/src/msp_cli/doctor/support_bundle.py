"""One archive with all that a helper elsewhere needs, and no secret: every text passes the redactor."""

import io
import json
import platform
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Finding
from msp_cli.doctor.gathering import CHAT_UI_ENV, Addresses, secrets_of
from msp_cli.doctor.redaction import MARK, Redactor, is_secret_name
from msp_cli.doctor.report import as_text
from msp_cli.doctor.site import COMMANDS, Ran, Site, Unknown

FOLDER = "msp-support"
MAX_TEXT = 4 * 2**20
"""Of a longer text the end is kept, where the news is."""

_PAGES = {
    "gateway": ("health", "services", "gpu-stats", "metrics"),
    "registry": ("health", "models", "jobs", "metrics"),
}
# What these tell stands in texts of its own, without the environment of every container.
_WITH_SECRETS = ("containers", "compose-config", "cluster-config")

_README = """\
Made by `msp support-bundle`, for somebody who helps from elsewhere.

findings.txt, findings.json   what msp doctor found
versions.json                 of this tool, Docker, compose, and each container's image
env.txt, chatui.env.txt       settings; secrets are ***
compose-*.json                the compose configurations with all variables filled in; secrets are ***
containers.json               how each container is
commands/                     what was run on the host, and what it printed
http/                         what gateway and registry answered
logs/                         the last lines of each container

Prompts and answers are never logged. Names of hosts, models and keys, and addresses, are in here: look
through it before it leaves the site.
"""


@dataclass(frozen=True)
class Text:
    """One file of the archive, before secrets are taken out."""

    name: str
    text: str
    is_env: bool = False


def build(site: Site, facts: Facts, findings: list[Finding], addresses: Addresses, version: str) -> bytes:
    """The archive, as a tar.gz."""
    redactor = Redactor(secrets_of(facts))
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for part in _texts(site, facts, findings, addresses, version):
            clean = redactor.env_file(part.text) if part.is_env else redactor.text(part.text)
            _add(archive, part.name, clean, site.now)
    return held.getvalue()


def _texts(
    site: Site, facts: Facts, findings: list[Finding], addresses: Addresses, version: str
) -> Iterator[Text]:
    yield Text("README.txt", _README)
    yield Text("findings.txt", as_text(findings))
    yield Text("findings.json", _json([finding.model_dump(mode="json") for finding in findings]))
    yield Text("versions.json", _json(_versions(facts, version)))
    yield Text("containers.json", _json(_containers(facts)))
    for name, path in (("env.txt", ".env"), ("chatui.env.txt", CHAT_UI_ENV)):
        text = site.read(path)
        yield Text(name, f"# {text.why}\n" if isinstance(text, Unknown) else text, is_env=True)
    for name, command in (("compose-standard", "compose-config"), ("compose-cluster", "cluster-config")):
        yield Text(f"{name}.json", _compose(site.run(command)))
    for name in COMMANDS:
        if name not in _WITH_SECRETS:
            yield Text(f"commands/{name}.txt", _command(site.run(name)))
    for service, pages in _PAGES.items():
        for page in pages:
            yield Text(f"http/{service}-{page}.txt", _page(site, f"{getattr(addresses, service)}/{page}"))
    for name, log in site.logs([container.name for container in facts.ours]).items():
        yield Text(f"logs/{name}.log", f"not had: {log.why}\n" if isinstance(log, Unknown) else log)


def _versions(facts: Facts, version: str) -> Mapping[str, object]:
    return {
        "msp": version,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "docker": facts.engine.why if isinstance(facts.engine, Unknown) else facts.engine.version,
        "compose": facts.compose_version.why
        if isinstance(facts.compose_version, Unknown)
        else facts.compose_version,
        "images": {container.name: container.image for container in facts.ours},
    }


def _containers(facts: Facts) -> object:
    if isinstance(facts.containers, Unknown):
        return {"not had": facts.containers.why}
    return [
        {
            "name": c.name,
            "service": c.service,
            "image": c.image,
            "status": c.status,
            "health": c.health,
            "exit_code": c.exit_code,
            "restarts": c.restarts,
            "oom_killed": c.oom_killed,
            "published": [f"{address}:{port}" for address, port in c.published],
            "environment": {n: MARK if is_secret_name(n) and v else v for n, v in c.environment.items()},
        }
        for c in facts.ours
    ]


def _compose(ran: Ran | Unknown) -> str:
    if isinstance(ran, Unknown):
        return _json({"not had": ran.why})
    if ran.code:
        return _json({"not had": ran.err.strip() or ran.out.strip()})
    try:
        return _json(_without_secrets(json.loads(ran.out)))
    except ValueError:
        return _json({"not had": "docker compose config printed no JSON"})


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: MARK
            if is_secret_name(str(key)) and isinstance(held, str) and held
            else _without_secrets(held)
            for key, held in value.items()
        }
    return [_without_secrets(held) for held in value] if isinstance(value, list) else value


def _command(ran: Ran | Unknown) -> str:
    if isinstance(ran, Unknown):
        return f"not had: {ran.why}\n"
    return f"{ran.out}{ran.err}[exit code {ran.code}]\n"


def _page(site: Site, url: str) -> str:
    answer = site.get(url)
    if isinstance(answer, Unknown):
        return f"not had: {answer.why}\n"
    return f"GET {url}: {answer.status}\n\n{answer.body}\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _add(archive: tarfile.TarFile, name: str, text: str, now: Callable[[], float]) -> None:
    if len(text) > MAX_TEXT:
        text = f"[the first {len(text) - MAX_TEXT:,} characters were left out]\n{text[-MAX_TEXT:]}"
    data = text.encode("utf-8", errors="replace")
    entry = tarfile.TarInfo(f"{FOLDER}/{name}")
    entry.size, entry.mtime, entry.mode = len(data), int(now()), 0o600
    archive.addfile(entry, io.BytesIO(data))
