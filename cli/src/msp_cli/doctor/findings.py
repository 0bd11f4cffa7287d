"""What doctor says: one finding for each thing that it looked at."""

from enum import StrEnum

from pydantic import BaseModel

from msp_cli.exit_codes import ExitCode


class Level(StrEnum):
    """How a thing is. `unknown` is said as loudly as the rest: what was not checked may be broken."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


class Code(StrEnum):
    """What was looked at; each has its heading in docs/TROUBLESHOOTING.md."""

    DOCKER = "docker"
    NO_DRIVER = "no-driver"
    NO_CONTAINER_TOOLKIT = "no-container-toolkit"
    WRONG_DEVICE_IDS = "wrong-device-ids"
    SHARED_GPU = "shared-gpu"
    GPU_NOT_DETECTED = "gpu-not-detected"
    GPU_LOST = "gpu-lost"
    PORT_IN_USE = "port-in-use"
    LOW_DISK = "low-disk"
    WRONG_PERMISSIONS = "wrong-permissions"
    BAD_ENV = "bad-env"
    CLOCK_SKEW = "clock-skew"
    PROXY_AND_CA = "proxy-and-ca"
    GATEWAY_UNREACHABLE = "gateway-unreachable"
    STORE_UNREACHABLE = "store-unreachable"
    SERVICE_NOT_STARTING = "service-not-starting"
    MODEL_MISSING = "model-missing"
    NO_API_KEY = "no-api-key"
    OPEN_REGISTRATION = "open-registration"
    FOREIGN_MODELS = "foreign-models"
    CHAT_UI_CANNOT_CONNECT = "chat-ui-cannot-connect"
    EGRESS = "egress"


class Finding(BaseModel):
    """One thing that was looked at."""

    code: Code
    level: Level
    what: str
    remedy: str | None = None
    """What to do; None where nothing is to be done."""


def ok(code: Code, what: str) -> Finding:
    """A thing that is as it should be."""
    return Finding(code=code, level=Level.OK, what=what)


def warning(code: Code, what: str, remedy: str) -> Finding:
    """A thing that works, and will hurt."""
    return Finding(code=code, level=Level.WARNING, what=what, remedy=remedy)


def problem(code: Code, what: str, remedy: str) -> Finding:
    """A thing that does not work."""
    return Finding(code=code, level=Level.PROBLEM, what=what, remedy=remedy)


def unknown(code: Code, what: str, remedy: str | None = None) -> Finding:
    """A thing that could not be looked at, and why."""
    return Finding(code=code, level=Level.UNKNOWN, what=f"not checked: {what}", remedy=remedy)


def exit_code(findings: list[Finding], *, strict: bool = False) -> ExitCode:
    """0 without a problem; 6 with one. `strict` takes warnings, and what was not checked, for problems."""
    bad = {Level.PROBLEM, *([Level.WARNING, Level.UNKNOWN] if strict else [])}
    return ExitCode.FAILED if any(finding.level in bad for finding in findings) else ExitCode.DONE
