"""Who uses a model: asked of the service registry before anything is deleted."""

from typing import Protocol

import httpx
from pydantic import ValidationError

from msp_common.contracts.workers import Snapshot, Verdict

# Their leases have run out or their engines have broken: they read nothing any more.
_GONE = (Verdict.UNHEALTHY, Verdict.FAILED)


class UsageUnknown(Exception):
    """The service registry could not be asked."""


class Usage(Protocol):
    """Answers who uses a model."""

    async def workers_of(self, repo_id: str, commit: str | None = None) -> list[str]:
        """Ids of the workers that serve or load this commit of it; without one, any. Raises UsageUnknown."""


class NobodyAsked:
    """For a registry that stands alone."""

    async def workers_of(self, repo_id: str, commit: str | None = None) -> list[str]:
        """Nobody."""
        return []


class ServiceRegistryUsage:
    """Asks `GET /workers`."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client

    async def workers_of(self, repo_id: str, commit: str | None = None) -> list[str]:
        """Workers with a living lease for the model."""
        try:
            answer = await self._client.get(f"{self._url}/workers")
            answer.raise_for_status()
            snapshot = Snapshot.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            reason = type(error).__name__
            raise UsageUnknown(f"the service registry at {self._url} cannot be asked: {reason}") from error
        return users(snapshot, repo_id, commit)


def users(snapshot: Snapshot, repo_id: str, commit: str | None = None) -> list[str]:
    """Ids of the workers in a snapshot that need the model, in this commit if one is given. Pure.

    A worker that does not know its commit yet may be about to load any of them.
    """
    return sorted(
        worker.id
        for worker in snapshot.workers
        if worker.lease.model.id == repo_id
        and worker.verdict not in _GONE
        and (commit is None or worker.lease.model.commit in (None, commit))
    )
