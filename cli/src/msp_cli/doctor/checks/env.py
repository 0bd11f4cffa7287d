"""The .env: there, complete, understood."""

import difflib
import re
from collections.abc import Callable

from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown, warning
from msp_cli.doctor.site import Unknown

REQUIRED = ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_SVC_USER", "MINIO_SVC_PASSWORD")
_COMPOSES_OWN = re.compile(r"(COMPOSE|DOCKER|BUILDKIT)_[A-Z_]+")
_OF_FURTHER_WORKERS = re.compile(r"(LLM|MULTIMODAL|EMBEDDING|TRANSCRIPTION)_\d+_(MODEL|GPU)")
_LINE = re.compile(r"^\s*(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*=")


def check(facts: Facts) -> list[Finding]:
    """All mistakes in .env, or that there is none."""
    if isinstance(facts.env, Unknown):
        if facts.env.absent:
            if not facts.ours and facts.runs:
                return [ok(Code.BAD_ENV, "the platform runs without Docker here, and needs no .env")]
            return [
                problem(
                    Code.BAD_ENV, "there is no .env", "./scripts/init-env.sh writes one with fresh secrets"
                )
            ]
        return [unknown(Code.BAD_ENV, f".env: {facts.env.why}")]
    findings = [*_lines(facts.env_text), *_required(facts), *_values(facts), *_names(facts), *_compose(facts)]
    if findings:
        return findings
    if isinstance(facts.compose, Unknown):
        return [unknown(Code.BAD_ENV, f"whether compose can read it: {facts.compose.why}")]
    return [ok(Code.BAD_ENV, f".env is understood: {len(facts.env)} settings")]


def _lines(text: str) -> list[Finding]:
    found = []
    if "\r" in text:
        found.append(
            problem(
                Code.BAD_ENV,
                ".env has Windows line ends, which become part of every value",
                "sed -i 's/\\r$//' .env",
            )
        )
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        # Never the line itself: it may hold a secret.
        if not _LINE.match(line):
            found.append(
                problem(
                    Code.BAD_ENV, f".env line {number} is no NAME=value", "write it without spaces around ="
                )
            )
            continue
        name = bare.removeprefix("export ").partition("=")[0].strip()
        if name in seen:
            found.append(
                warning(
                    Code.BAD_ENV,
                    f".env says {name} twice, in lines {seen[name]} and {number}; the last one holds",
                    "remove one of the two",
                )
            )
        seen[name] = number
    return found


def _required(facts: Facts) -> list[Finding]:
    missing = [name for name in REQUIRED if not facts.settings.get(name)]
    if not missing:
        return []
    return [
        problem(
            Code.BAD_ENV,
            f".env gives no value to {', '.join(missing)}",
            "make each with: openssl rand -hex 24; or rename .env and run ./scripts/init-env.sh",
        )
    ]


def _share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


def _whole(text: str) -> bool:
    return text.isdigit()


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda text: text in words


_RULES: dict[str, tuple[Callable[[str], bool], str]] = {
    "GPU_MEMORY_FRACTION": (_share, "a share such as 0.9"),
    "KV_MEMORY_FRACTION": (lambda text: _share(text) and float(text) <= 0.95, "a share of at most 0.95"),
    "MAX_RUNNING": (_whole, "a whole number"),
    "PREFILL_TOKENS": (_whole, "a whole number"),
    "QUANTIZATION": (_one_of("none", "bnb-8bit", "bnb-4bit"), "none, bnb-8bit or bnb-4bit"),
    # Compose asks only whether it is empty: `no` would mean yes.
    "REGISTRATION_NEEDS_TOKEN": (_one_of("yes"), "yes, or nothing"),
    "WORKERS_PER_HOST": (_whole, "a whole number"),
    "MODEL_CACHE_LIMIT_BYTES": (_whole, "a number of bytes"),
    "REGISTRY_QUOTA_BYTES": (_whole, "a number of bytes"),
    "REGISTRY_MODE": (_one_of("online", "offline"), "online or offline"),
    "AUTO_DOWNLOAD": (_one_of("true", "false"), "true or false"),
    "WORKER_DEVICE": (_one_of("auto", "cpu", "cuda"), "auto, cpu or cuda"),
    "LOG_LEVEL": (_one_of("debug", "info", "warning", "error"), "debug, info, warning or error"),
    "MINIO_KIND": (_one_of("minio", "versitygw"), "minio or versitygw"),
}


def _values(facts: Facts) -> list[Finding]:
    return [
        problem(
            Code.BAD_ENV,
            f".env: {name} is {value!r}, expected {expected}",
            "correct it, then docker compose up -d",
        )
        for name, (fits, expected) in _RULES.items()
        if (value := facts.settings.get(name)) and not fits(value)
    ]


def _names(facts: Facts) -> list[Finding]:
    if isinstance(facts.example, Unknown):
        return []
    found = []
    for name in facts.settings:
        if name in facts.example or _COMPOSES_OWN.fullmatch(name) or _OF_FURTHER_WORKERS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, facts.example, n=1, cutoff=0.8)
        # A name that resembles none is the operator's own, for a service that they added.
        if near:
            found.append(
                warning(
                    Code.BAD_ENV,
                    f".env sets {name}, which nothing reads",
                    f"did you mean {near[0]}? .env.example explains every name",
                )
            )
    return found


def _compose(facts: Facts) -> list[Finding]:
    compose = facts.compose
    if not isinstance(compose, Unknown) or compose.absent or not _is_refusal(compose.why):
        return []
    return [
        problem(
            Code.BAD_ENV,
            f"compose cannot read the installation: {compose.why}",
            "the text names the variable or the line; ./scripts/init-env.sh writes a whole .env",
        )
    ]


def _is_refusal(why: str) -> bool:
    return "docker compose config failed" in why and "not a docker command" not in why
