"""Where snapshots come from: the registry, over HTTP."""

import time
from collections.abc import Callable
from typing import Protocol

import httpx
from pydantic import ValidationError

from msp_common.contracts.models import ModelInfo
from msp_model_service.weights.addresses import Addresses, FileSource
from msp_model_service.weights.connections import Connections
from msp_model_service.weights.fetch_errors import NotHeld, Refused, SourceAway

_TIMEOUT = httpx.Timeout(10, read=60)


class ModelSource(Protocol):
    """Tells what a revision is and hands out its bytes. Calls block."""

    def resolve(self, model_id: str, revision: str) -> ModelInfo:
        """The snapshot that the revision names now. Raises SourceAway, NotHeld or Refused."""

    def files(self, info: ModelInfo) -> FileSource:
        """Where the bytes of this snapshot's files are."""


class RegistrySource:
    """The registry, or the store where its answers point there."""

    def __init__(self, base_url: str, clock: Callable[[], float] = time.time) -> None:
        self._base_url = base_url
        self._clock = clock
        # Proxies of the environment are for the way out, never for the way to a neighbour.
        self._http = httpx.Client(base_url=base_url, timeout=_TIMEOUT, trust_env=False, follow_redirects=True)
        self._connections = Connections()

    def resolve(self, model_id: str, revision: str) -> ModelInfo:
        """See ModelSource."""
        try:
            answer = self._http.get(f"/models/{model_id}", params={"revision": revision})
        except httpx.HTTPError as error:
            raise SourceAway(f"the registry {self._base_url} cannot be reached: {_what(error)}") from error
        if answer.status_code == 404:
            raise NotHeld(
                f"the registry has no {model_id} at revision {revision}; bring it with "
                f"`msp models pull {model_id}`, `curl -X POST {self._base_url}/models/{model_id}/download` "
                "(or .../import, or a bundle without internet)"
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

    def files(self, info: ModelInfo) -> FileSource:
        """See ModelSource."""
        return Addresses(
            self._base_url,
            info,
            lambda: self.resolve(info.id, info.commit),
            self._connections,
            self._clock,
        )

    def close(self) -> None:
        """Close connections."""
        self._http.close()
        self._connections.close()


def _what(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
