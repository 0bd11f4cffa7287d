"""What a hub's refusal means, and what its reader can do. Pure.

The Hub tells reasons apart by `X-Error-Code`; mirrors of it often leave that out.
"""

import re
from dataclasses import dataclass

import httpx

from msp_registry.failures import (
    GatedNotAccepted,
    GatedNoToken,
    HubMisbehaved,
    HubUnreachable,
    JobFailure,
    NoSuchRepo,
    NoSuchRevision,
    RepoDisabled,
    TokenRefused,
    WrongBytes,
)
from msp_registry.hub.selection import RemoteFile

_DISABLED = re.compile(r"access to this resource is disabled", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes \*/(\d+)")


@dataclass(frozen=True)
class Asked:
    """What a request was about."""

    endpoint: str
    has_token: bool
    repo_id: str
    revision: str
    file: RemoteFile | None = None


def refusal(response: httpx.Response, asked: Asked) -> JobFailure:
    """The failure that an answer with an error's status means."""
    status, code = response.status_code, response.headers.get("x-error-code", "")
    told = response.headers.get("x-error-message", "")
    repo_id, where = asked.repo_id, f"at {asked.endpoint}"
    if origin(response.url) != origin(httpx.URL(asked.endpoint)):
        return HubUnreachable(
            f"{asked.endpoint} sends us to {response.url.host}, which answers HTTP {status} {told}".rstrip()
            + "; if a proxy stands between, let it pass that host"
        )
    if status == 416 and asked.file is not None:
        return _other_size(response, asked.file)
    if code == "GatedRepo" and not asked.has_token:
        return GatedNoToken(
            f"{repo_id} is gated {where} and no token is set: accept its licence there, then set HF_TOKEN"
        )
    if code == "GatedRepo":
        return GatedNotAccepted(
            f"{repo_id} is gated {where}, and the account of HF_TOKEN has not been granted access: "
            "accept its licence there with that account"
        )
    if code == "DisabledRepo" or _DISABLED.search(told):
        return RepoDisabled(f"{repo_id} is disabled {where}: nobody can download it")
    if code == "RevisionNotFound":
        return NoSuchRevision(f"{repo_id} has no revision {asked.revision!r} {where}")
    if status == 401 and asked.has_token and code != "RepoNotFound":
        return TokenRefused(f"{asked.endpoint} does not accept HF_TOKEN: {told or 'HTTP 401'}")
    if status == 403 and asked.has_token and not code:
        return TokenRefused(
            f"{asked.endpoint} does not let HF_TOKEN read {repo_id}: {told or 'HTTP 403'}; "
            "give the token the right to read it"
        )
    if code == "RepoNotFound" or (status in (401, 404) and not code):
        hint = "" if asked.has_token else "; if it is private, set HF_TOKEN"
        return NoSuchRepo(f"there is no model {repo_id} {where}{hint}")
    return HubMisbehaved(f"{response.url} answered HTTP {status} {code} {told}".rstrip())


def unreachable(url: str, reason: str, tries: int) -> HubUnreachable:
    """No answer, in so many tries; with the remedy where the reason tells one."""
    remedy = "; if a private authority signs its certificate, set EXTRA_CA_FILE" if untrusted(reason) else ""
    return HubUnreachable(f"{url} cannot be read: {reason}; tried {tries} times{remedy}")


def untrusted(reason: str) -> bool:
    """Whether the other side's certificate is the reason, so that another try is of no use."""
    return "CERTIFICATE_VERIFY_FAILED" in reason


def other_size(file: RemoteFile, found_bytes: int) -> WrongBytes:
    """The list of files and the file disagree."""
    return WrongBytes(
        f"{file.path}: the hub's list says {file.size_bytes} bytes, its file has {found_bytes} bytes"
    )


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: what a token may be sent to."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _other_size(response: httpx.Response, file: RemoteFile) -> JobFailure:
    match = _UNSATISFIED.fullmatch(response.headers.get("content-range", ""))
    if match is not None and int(match[1]) != file.size_bytes:
        return other_size(file, int(match[1]))
    return HubMisbehaved(f"{response.url} refuses a range inside the file (HTTP 416)")
