"""Where snapshots come from: the registry, over HTTP."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from msp_common.contracts.models import ManifestFile, ModelInfo

_TIMEOUT = httpx.Timeout(10, read=60)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


class NotYet(Exception):
    """It cannot be had now, but may be later: the worker waits and tries again. The message says why."""


class SourceAway(NotYet):
    """The registry gave no answer that says anything about the model."""


class Refused(Exception):
    """Trying again would not help; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Bytes:
    """The rest of a file."""

    start: int
    """Offset of the first byte: what was asked for, or 0 where the server ignores ranges."""
    chunks: Iterator[bytes]
    """Raises NotYet when the connection breaks."""


class ModelSource(Protocol):
    """Tells what a revision is and hands out its bytes. Calls block."""

    def resolve(self, model_id: str, revision: str) -> ModelInfo:
        """The snapshot that the revision names now. Raises SourceAway, NotYet or Refused."""

    def open(self, info: ModelInfo, file: ManifestFile, offset: int) -> AbstractContextManager[Bytes]:
        """The bytes of one file from `offset` on. Raises NotYet."""


class RegistrySource:
    """The registry, or the store where its answers point there."""

    def __init__(self, base_url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._base_url = base_url
        # Proxies of the environment are for the way out, never for the way to a neighbour.
        self._http = httpx.Client(
            base_url=base_url, timeout=_TIMEOUT, trust_env=False, follow_redirects=True, transport=transport
        )

    def resolve(self, model_id: str, revision: str) -> ModelInfo:
        """See ModelSource."""
        try:
            answer = self._http.get(f"/models/{model_id}", params={"revision": revision})
        except httpx.HTTPError as error:
            raise SourceAway(f"the registry {self._base_url} cannot be reached: {_what(error)}") from error
        if answer.status_code == 404:
            raise NotYet(
                f"the registry has no {model_id} at revision {revision}; bring it with `curl -X POST "
                f"{self._base_url}/models/{model_id}/download` (or .../import, or a bundle where there is no "
                "internet)"
            )
        if answer.status_code >= 500 or answer.status_code in (408, 425, 429):
            raise SourceAway(f"the registry {self._base_url} answered {answer.status_code}")
        if answer.is_error:
            raise Refused(
                f"the registry {self._base_url} answered {answer.status_code} when asked for {model_id} at "
                f"revision {revision}: {answer.text[:300]}"
            )
        try:
            return ModelInfo.model_validate_json(answer.content)
        except ValidationError as error:
            raise Refused(
                f"{self._base_url} answered something that is no model's description "
                f"({error.error_count()} errors, first {error.errors()[0]['loc']}); is REGISTRY_URL right?"
            ) from error

    @contextmanager
    def open(self, info: ModelInfo, file: ManifestFile, offset: int) -> Iterator[Bytes]:
        """See ModelSource."""
        given = next((u.url for u in info.urls if u.path == file.path), None)
        url = given or f"/files/{quote(info.id)}/{info.commit}/{quote(file.path)}"
        # A compressed body would have neither this length nor these offsets.
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            with self._http.stream("GET", url, headers=headers) as answer:
                # As they arrive: gathered into larger chunks, what a broken connection brought would be lost.
                yield Bytes(_start(answer, file, offset), answer.iter_bytes())
        except httpx.HTTPError as error:
            raise NotYet(f"{file.path} broke off: {_what(error)}") from error

    def close(self) -> None:
        """Close connections."""
        self._http.close()


def _start(answer: httpx.Response, file: ManifestFile, offset: int) -> int:
    if answer.status_code == 200:
        return 0
    match = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
    if answer.status_code == 206 and match and int(match[1]) == offset:
        return offset
    raise NotYet(
        f"{file.path} from offset {offset} was answered {answer.status_code} "
        f"{answer.headers.get('content-range', '')}".rstrip()
    )


def _what(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
