"""Proxies and certificates: what stands between the online side and the Hub, and must not stand inside."""

from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown
from msp_cli.doctor.site import Unknown

INSIDE = ("minio", "service-registry")
_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy")
_CERTIFICATE = ("certificate", "self-signed", "self signed", "unable to get local issuer", "ssl:")
_PROXIED = ("proxy", "407")


def check(facts: Facts) -> list[Finding]:
    """All that is wrong with them."""
    if isinstance(facts.env, Unknown) and not facts.runs:
        return [unknown(Code.PROXY_AND_CA, f".env: {facts.env.why}")]
    findings = [*_no_proxy(facts), *_containers(facts), *_authority(facts), *_jobs(facts)]
    if findings:
        return findings
    proxy = "a proxy is named" if facts.settings.get("HTTPS_PROXY") else "no proxy is named"
    authority = "an authority of your own" if facts.settings.get("EXTRA_CA_FILE") else "the usual authorities"
    return [ok(Code.PROXY_AND_CA, f"{proxy}, {authority}, and no download failed for either")]


def _no_proxy(facts: Facts) -> list[Finding]:
    if not facts.settings.get("HTTPS_PROXY"):
        return []
    excepted = _names(facts.settings.get("NO_PROXY") or ",".join(INSIDE))
    missing = [name for name in INSIDE if name not in excepted and "*" not in excepted]
    if not missing:
        return []
    return [
        problem(
            Code.PROXY_AND_CA,
            f"NO_PROXY in .env lacks {', '.join(missing)}: requests within the stack go to the proxy",
            f"NO_PROXY={','.join([*sorted(excepted), *missing])} in .env, then docker compose up -d registry",
        )
    ]


def _containers(facts: Facts) -> list[Finding]:
    """Docker's client hands the proxies of ~/.docker/config.json to every container."""
    found = []
    for container in facts.ours:
        if container.service in ("registry", "minio"):
            continue
        proxied = [name for name in _PROXY_NAMES if container.environment.get(name)]
        excepted = _names(
            f"{container.environment.get('NO_PROXY', '')},{container.environment.get('no_proxy', '')}"
        )
        if proxied and "registry" not in excepted and "*" not in excepted:
            found.append(
                problem(
                    Code.PROXY_AND_CA,
                    f"{container.service} has {proxied[0]} in its environment, and its NO_PROXY lacks the "
                    "stack's own services",
                    "remove `proxies` from ~/.docker/config.json, or add noProxy: registry,service-registry,"
                    "gateway,minio there; then docker compose up -d --force-recreate",
                )
            )
    return found


def _authority(facts: Facts) -> list[Finding]:
    path = facts.settings.get("EXTRA_CA_FILE")
    if not path or facts.ca_text is None:
        return []
    if isinstance(facts.ca_text, Unknown):
        return [
            problem(
                Code.PROXY_AND_CA,
                f"EXTRA_CA_FILE in .env is {path}: {facts.ca_text.why}",
                "name a file of this host that holds the authority's certificate in PEM form",
            )
        ]
    if "-----BEGIN CERTIFICATE-----" not in facts.ca_text:
        return [
            problem(
                Code.PROXY_AND_CA,
                f"{path} holds no certificate in PEM form",
                f"openssl x509 -inform der -in {path} -out {path}.pem, and name that one",
            )
        ]
    if "PRIVATE KEY-----" in facts.ca_text:
        return [
            problem(
                Code.PROXY_AND_CA,
                f"{path} holds a private key, which containers are given to read",
                "leave the certificates alone in that file",
            )
        ]
    return []


def _jobs(facts: Facts) -> list[Finding]:
    """The newest failed download that tells of a certificate or a proxy."""
    if isinstance(facts.jobs, Unknown):
        return []
    for job in facts.jobs.jobs:
        message = job.error.message if job.error else ""
        if any(sign in message.lower() for sign in _CERTIFICATE):
            return [
                problem(
                    Code.PROXY_AND_CA,
                    f"the download of {job.repo_id} failed for a certificate: {message[:300]}",
                    "a proxy that looks into TLS signs with its own authority: put its certificate in a PEM "
                    "file, name that as EXTRA_CA_FILE in .env, then docker compose up -d registry",
                )
            ]
        if any(sign in message.lower() for sign in _PROXIED):
            return [
                problem(
                    Code.PROXY_AND_CA,
                    f"the download of {job.repo_id} failed at the proxy: {message[:300]}",
                    "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT in .env, then docker compose up -d registry",
                )
            ]
    return []


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}
