"""What `msp` asks of the registry."""

import json
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from msp_common.contracts.base import Contract
from msp_common.contracts.jobs import DownloadRequest, ImportRequest, Job
from msp_common.contracts.models import ModelInfo, ModelList

C = TypeVar("C", bound=Contract)


class ServiceAnsweredBadly(Exception):
    """A service cannot be reached, or refused; the text is for people."""


class RegistryApi:
    """The registry's API. Every method raises ServiceAnsweredBadly."""

    def __init__(self, client: httpx.AsyncClient, url: str, admin_token: str | None) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {admin_token}"} if admin_token else {}

    async def models(self) -> ModelList:
        """All models of the store."""
        return parsed(ModelList, await self._ask("GET", "/models"))

    async def info(self, model_id: str, revision: str | None) -> ModelInfo:
        """One model."""
        params = {"revision": revision} if revision else None
        return parsed(ModelInfo, await self._ask("GET", f"/models/{model_id}", params=params))

    async def download(self, model_id: str, request: DownloadRequest) -> Job:
        """Start mirroring a model from the hub."""
        return parsed(Job, await self._ask("POST", f"/models/{model_id}/download", body=request))

    async def import_folder(self, model_id: str, request: ImportRequest) -> Job:
        """Start importing a folder that the registry can read."""
        return parsed(Job, await self._ask("POST", f"/models/{model_id}/import", body=request))

    async def job(self, job_id: str) -> Job:
        """One job."""
        return parsed(Job, await self._ask("GET", f"/jobs/{job_id}"))

    async def remove(self, model_id: str, *, force: bool) -> None:
        """Delete a model from the store; with `force` also while workers use it."""
        await self._ask("DELETE", f"/models/{model_id}", params={"force": "true"} if force else None)

    async def _ask(
        self, method: str, path: str, *, params: dict[str, str] | None = None, body: Contract | None = None
    ) -> httpx.Response:
        content = body.model_dump(mode="json") if body else None
        return await asked(
            self._client, method, f"{self._url}{path}", params=params, json=content, headers=self._headers
        )


async def asked(client: httpx.AsyncClient, method: str, url: str, **request: Any) -> httpx.Response:
    """The answer of a service, if it is a good one. Raises ServiceAnsweredBadly."""
    try:
        answer = await client.request(method, url, **request)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceAnsweredBadly(
            f"{url} cannot be reached: {str(error) or type(error).__name__}; is it running (msp ps)?"
        ) from None
    if answer.is_error:
        raise ServiceAnsweredBadly(
            f"{method} {url} was answered with {answer.status_code}: {_message(answer)}"
        )
    return answer


def parsed(contract: type[C], answer: httpx.Response) -> C:
    """The answer's body as a contract. Raises ServiceAnsweredBadly."""
    try:
        return contract.model_validate_json(answer.content)
    except ValidationError as error:
        raise ServiceAnsweredBadly(
            f"{answer.url} answered what this msp does not understand: {error}"
        ) from None


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return answer.text[:300]
