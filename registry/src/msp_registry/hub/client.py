"""Reading a hub that speaks Hugging Face's protocol: which commit a revision is, its files, their bytes."""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx

from msp_common.contracts.models import HubRecord
from msp_registry.failures import HubMisbehaved
from msp_registry.hub.reading import HubReader
from msp_registry.hub.refusals import Asked
from msp_registry.hub.requests import TRIES, Clock, HubRequests, Sleep
from msp_registry.hub.selection import RemoteFile
from msp_registry.layout import is_commit

__all__ = ["TRIES", "Hub", "HubClient", "Resolved", "Sleep"]

_MAX_PAGES = 10_000
_MAX_TAGS = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolved:
    """What a hub says of one revision."""

    commit: str
    record: HubRecord = field(default_factory=HubRecord)


class Hub(Protocol):
    """Where models are mirrored from. All methods raise JobFailure."""

    @property
    def endpoint(self) -> str:
        """Its address, for the manifest."""

    async def resolve(self, repo_id: str, revision: str) -> Resolved:
        """The commit that a revision names now."""

    async def tree(self, repo_id: str, commit: str) -> list[RemoteFile]:
        """All files of a commit."""

    async def probe(self, repo_id: str, commit: str, file: RemoteFile) -> None:
        """Returns if the file may be read."""

    def read(
        self, repo_id: str, commit: str, file: RemoteFile, offset: int, length: int
    ) -> AsyncGenerator[bytes, None]:
        """Exactly these bytes of a file, whatever breaks on the way. Raises RangesIgnored, too."""


class HubClient:
    """A Hub over HTTP. The token goes to the endpoint's own origin and nowhere else."""

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        client: httpx.AsyncClient,
        sleep: Sleep,
        *,
        clock: Clock = time.time,
        stall_timeout_s: float = 30.0,
        fetched: Callable[[int], object] = lambda n_bytes: None,
    ) -> None:
        """`client` (see `hub_http`) gets a hook that guards the token; `clock` tells Unix time.

        `fetched` hears of the bytes of files as they come.
        """
        self._endpoint = endpoint.rstrip("/")
        self._has_token = token is not None
        self._requests = HubRequests(
            self._endpoint, token, client, sleep=sleep, clock=clock, stall_timeout_s=stall_timeout_s
        )
        self._reader = HubReader(self._requests)
        self._fetched = fetched

    @property
    def endpoint(self) -> str:
        """Its address, without a trailing slash."""
        return self._endpoint

    async def resolve(self, repo_id: str, revision: str) -> Resolved:
        """Asks `/api/models/{id}/revision/{revision}`."""
        url = f"{self._endpoint}/api/models/{repo_id}/revision/{quote(revision, safe='')}"
        answer, response = await self._requests.answer(url, self._asked(repo_id, revision))
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not is_commit(commit):
            raise HubMisbehaved(f"{url} names no commit; is {self._endpoint} a hub?")
        if is_commit(revision) and commit != revision:
            raise HubMisbehaved(f"{self._endpoint} names {commit} when it is asked for commit {revision}")
        if response.history:
            log.warning(
                "%s is called %s at %s now; it is kept under the name that was asked for",
                repo_id,
                answer.get("id"),
                self._endpoint,
            )
        return Resolved(commit, _record(answer))

    async def tree(self, repo_id: str, commit: str) -> list[RemoteFile]:
        """Asks `/api/models/{id}/tree/{commit}`, page after page."""
        base = f"{self._endpoint}/api/models/{repo_id}/tree/{commit}"
        query = "recursive=true&expand=false"
        files: list[RemoteFile] = []
        for _ in range(_MAX_PAGES):
            entries, response = await self._requests.answer(f"{base}?{query}", self._asked(repo_id, commit))
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

    async def probe(self, repo_id: str, commit: str, file: RemoteFile) -> None:
        """Asks for the file's first byte."""
        url = self._resolve_url(repo_id, commit, file)
        await self._reader.probe(url, self._asked(repo_id, commit, file), file)

    async def read(
        self, repo_id: str, commit: str, file: RemoteFile, offset: int, length: int
    ) -> AsyncGenerator[bytes, None]:
        """Asks `/{id}/resolve/{commit}/{path}` for a range; after a break, for the rest only."""
        asked = self._asked(repo_id, commit, file)
        url = self._resolve_url(repo_id, commit, file)
        async with aclosing(self._reader.read(url, asked, file, offset, length)) as chunks:
            async for chunk in chunks:
                self._fetched(len(chunk))
                yield chunk

    def _resolve_url(self, repo_id: str, commit: str, file: RemoteFile) -> str:
        return f"{self._endpoint}/{repo_id}/resolve/{commit}/{quote(file.path)}"

    def _asked(self, repo_id: str, revision: str, file: RemoteFile | None = None) -> Asked:
        return Asked(self._endpoint, self._has_token, repo_id, revision, file)


def _record(answer: dict[str, Any]) -> HubRecord:
    """What clients in the air gap ask for; values of other types than the Hub's are left out."""

    def text(name: str) -> str | None:
        value = answer.get(name)
        return value if isinstance(value, str) else None

    tags, gated = answer.get("tags"), answer.get("gated")
    return HubRecord(
        pipeline_tag=text("pipeline_tag"),
        library_name=text("library_name"),
        tags=[tag for tag in tags if isinstance(tag, str)][:_MAX_TAGS] if isinstance(tags, list) else [],
        last_modified=text("lastModified"),
        private=answer.get("private") is True,
        gated=gated if isinstance(gated, bool | str) else False,
    )


def _file(entry: dict[str, Any]) -> RemoteFile:
    lfs = entry.get("lfs")
    path, size, oid = entry.get("path"), entry.get("size"), entry.get("oid")
    sha256 = lfs.get("oid") if isinstance(lfs, dict) else None
    known = sha256 if sha256 is not None else oid
    if not isinstance(path, str) or not isinstance(size, int) or size < 0 or not isinstance(known, str):
        raise HubMisbehaved(f"the list of files has an entry without path, size or hash: {str(entry)[:200]}")
    return RemoteFile(path, size, git_sha1=None if sha256 is not None else oid, sha256=sha256)
