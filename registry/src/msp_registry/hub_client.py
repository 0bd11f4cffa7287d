"""Reading a hub that speaks Hugging Face's protocol: which commit a revision is, its files, their bytes."""

import json
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx

from msp_registry.failures import (
    GatedNotAccepted,
    GatedNoToken,
    HubMisbehaved,
    HubUnreachable,
    JobFailure,
    NoSuchRepo,
    NoSuchRevision,
    TokenRefused,
)
from msp_registry.layout import is_commit
from msp_registry.selection import RemoteFile

TRIES = 5
"""How often in a row a request may fail without a new byte before the file is given up."""

_MAX_WAIT_S = 60.0
_MAX_PAGES = 10_000
_BUSY = (429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")

Sleep = Callable[[float], Awaitable[None]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolved:
    """What a hub says of one revision."""

    commit: str
    gated: bool


class Hub(Protocol):
    """Where models are mirrored from. All methods raise JobFailure."""

    @property
    def endpoint(self) -> str:
        """Its address, for the manifest."""

    async def resolve(self, repo_id: str, revision: str) -> Resolved:
        """The commit that a revision names now."""

    async def tree(self, repo_id: str, commit: str) -> list[RemoteFile]:
        """All files of a commit."""

    def read(self, repo_id: str, commit: str, file: RemoteFile) -> AsyncGenerator[bytes, None]:
        """A file's bytes, from the first to the last, whatever breaks on the way."""


class HubClient:
    """A Hub over HTTP. The token goes to the endpoint's own origin and nowhere else."""

    def __init__(self, endpoint: str, token: str | None, client: httpx.AsyncClient, sleep: Sleep) -> None:
        """`client` follows redirects; this object adds the hook that guards the token."""
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._origin = _origin(httpx.URL(self._endpoint))
        self._client = client
        self._sleep = sleep
        client.event_hooks["request"].append(self._authorize)

    @property
    def endpoint(self) -> str:
        """Its address, without a trailing slash."""
        return self._endpoint

    async def resolve(self, repo_id: str, revision: str) -> Resolved:
        """Asks `/api/models/{id}/revision/{revision}`."""
        url = f"{self._endpoint}/api/models/{repo_id}/revision/{quote(revision, safe='')}"
        answer = _parsed((await self._whole(url, repo_id, revision)).content, url)
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not is_commit(commit):
            raise HubMisbehaved(f"{url} names no commit; is {self._endpoint} a hub?")
        return Resolved(commit, bool(answer.get("gated")))

    async def tree(self, repo_id: str, commit: str) -> list[RemoteFile]:
        """Asks `/api/models/{id}/tree/{commit}`, page after page."""
        base = f"{self._endpoint}/api/models/{repo_id}/tree/{commit}"
        query = "recursive=true&expand=false"
        files: list[RemoteFile] = []
        for _ in range(_MAX_PAGES):
            response = await self._whole(f"{base}?{query}", repo_id, commit)
            entries = _parsed(response.content, base)
            following = response.links.get("next", {}).get("url")
            if not isinstance(entries, list):
                raise HubMisbehaved(f"{base} is no list of files")
            files += [_file(e) for e in entries if isinstance(e, dict) and e.get("type") == "file"]
            if not following:
                return files
            # Mirrors often leave the original host in this link: only its query is used.
            following_query = urlsplit(following).query
            if not following_query or following_query == query:
                raise HubMisbehaved(f"{base} repeats the same page of its list of files")
            query = following_query
        raise HubMisbehaved(f"{base} has more than {_MAX_PAGES} pages")

    async def read(self, repo_id: str, commit: str, file: RemoteFile) -> AsyncGenerator[bytes, None]:
        """Asks `/{id}/resolve/{commit}/{path}`; after a break, for the rest only."""
        url = f"{self._endpoint}/{repo_id}/resolve/{commit}/{quote(file.path)}"
        done = failures = 0
        while done < file.size_bytes or not done:
            before = done
            try:
                async with aclosing(self._rest(url, repo_id, commit, done)) as rest:
                    async for chunk in rest:
                        done += len(chunk)
                        yield chunk
                if done >= file.size_bytes:
                    return
                reason = f"the body ended after {done} of {file.size_bytes} bytes"
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            failures = 1 if done > before else failures + 1
            if failures >= TRIES:
                raise HubUnreachable(f"{url} broke off {failures} times at byte {done}: {reason}")
            log.warning("%s broke off at byte %d (%s); asking for the rest", url, done, reason)
            await self._sleep(_backoff_s(failures))

    async def _rest(self, url: str, repo_id: str, commit: str, offset: int) -> AsyncGenerator[bytes, None]:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        async with self._request(url, repo_id, commit, headers) as response:
            skip = offset - _first_byte(response, url)
            if skip < 0:
                raise HubMisbehaved(f"{url} answered a range that begins after byte {offset}")
            # Pieces as they arrive: of larger ones httpx would drop the last when the connection breaks.
            async for chunk in response.aiter_raw():
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                yield chunk[skip:] if skip else chunk
                skip = 0

    async def _whole(self, url: str, repo_id: str, revision: str) -> httpx.Response:
        async with self._request(url, repo_id, revision) as response:
            try:
                await response.aread()
            except httpx.RequestError as error:
                raise HubUnreachable(f"{url} broke off: {type(error).__name__}: {error}") from error
            return response

    @asynccontextmanager
    async def _request(
        self, url: str, repo_id: str, revision: str, headers: dict[str, str] | None = None
    ) -> AsyncGenerator[httpx.Response, None]:
        """A successful answer with its body unread. Connection faults and busy answers are tried again."""
        for attempt in range(1, TRIES + 1):
            wait_s = _backoff_s(attempt)
            request = self._client.build_request("GET", url, headers=headers)
            try:
                response = await self._client.send(request, stream=True, follow_redirects=True)
            except (httpx.TransportError, httpx.TooManyRedirects) as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                try:
                    if response.is_success:
                        yield response
                        return
                    if response.status_code not in _BUSY:
                        raise self._refusal(response, repo_id, revision)
                    reason = f"HTTP {response.status_code}"
                    wait_s = _retry_after_s(response) or wait_s
                finally:
                    await response.aclose()
            if attempt == TRIES:
                break
            log.warning("%s: %s; trying again in %.0f s", url, reason, wait_s)
            await self._sleep(wait_s)
        raise HubUnreachable(f"{url} cannot be read: {reason}; tried {TRIES} times")

    def _refusal(self, response: httpx.Response, repo_id: str, revision: str) -> JobFailure:
        status, code = response.status_code, response.headers.get("x-error-code", "")
        told = response.headers.get("x-error-message", "")
        where = f"at {self._endpoint}"
        if code == "GatedRepo" and self._token is None:
            return GatedNoToken(
                f"{repo_id} is gated {where} and no token is set: accept its licence there, then set HF_TOKEN"
            )
        if code == "GatedRepo":
            return GatedNotAccepted(
                f"{repo_id} is gated {where}, and the account of HF_TOKEN has not been granted access: "
                "accept its licence there with that account"
            )
        if code == "RevisionNotFound":
            return NoSuchRevision(f"{repo_id} has no revision {revision!r} {where}")
        if status == 401 and self._token is not None and code != "RepoNotFound":
            return TokenRefused(f"{self._endpoint} does not accept HF_TOKEN: {told or 'HTTP 401'}")
        if code == "RepoNotFound" or (status in (401, 404) and not code):
            hint = "" if self._token else "; if it is private, set HF_TOKEN"
            return NoSuchRepo(f"there is no model {repo_id} {where}{hint}")
        return HubMisbehaved(f"{response.url} answered HTTP {status} {code} {told}".rstrip())

    async def _authorize(self, request: httpx.Request) -> None:
        """Runs before every request, redirects included."""
        if self._token is not None and _origin(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token}"
        else:
            request.headers.pop("Authorization", None)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _backoff_s(failures: int) -> float:
    return min(_MAX_WAIT_S, 0.5 * 2.0 ** (failures - 1))


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return min(_MAX_WAIT_S, float(text)) if text.isdigit() else None


def _first_byte(response: httpx.Response, url: str) -> int:
    """Where the body begins in the file. A server may ignore Range and send all (200)."""
    if response.status_code != 206:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        raise HubMisbehaved(f"{url} answered 206 without a Content-Range")
    return int(match[1])


def _parsed(body: bytes, url: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise HubMisbehaved(f"{url} did not answer with JSON; is this a hub?") from None


def _file(entry: dict[str, Any]) -> RemoteFile:
    lfs = entry.get("lfs")
    path, size, oid = entry.get("path"), entry.get("size"), entry.get("oid")
    sha256 = lfs.get("oid") if isinstance(lfs, dict) else None
    known = sha256 if sha256 is not None else oid
    if not isinstance(path, str) or not isinstance(size, int) or size < 0 or not isinstance(known, str):
        raise HubMisbehaved(f"the list of files has an entry without path, size or hash: {str(entry)[:200]}")
    return RemoteFile(path, size, git_sha1=None if sha256 is not None else oid, sha256=sha256)
