"""What `msp` asks of the registry.

ServiceAnsweredBadly      an answer that is an error, or that nobody understands
├── ServiceAway           no answer, or one that says to come again later
└── ServiceRefused        the service understood and will not
"""

import json
from collections.abc import AsyncGenerator
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from msp_common import sse
from msp_common.contracts.base import Contract
from msp_common.contracts.jobs import DownloadRequest, ImportRequest, Job, JobList, VerifyRequest
from msp_common.contracts.models import (
    DeletedModel,
    GcReport,
    GcRequest,
    ModelInfo,
    ModelList,
    RefChange,
    Refs,
)

C = TypeVar("C", bound=Contract)

AWAY_STATUSES = frozenset({502, 503, 504})

SILENCE_S = 45
"""How long an event stream may say nothing, keep-alives included, before it counts as broken."""

LONG_S = 3600
"""For what touches many objects before it answers: deletions and collections."""


class ServiceAnsweredBadly(Exception):
    """A service cannot be reached, or refused; the text is for people."""

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ServiceAway(ServiceAnsweredBadly):
    """No connection, a broken one, or an answer that says to come again later."""


class ServiceRefused(ServiceAnsweredBadly):
    """An answer from 400 to 499; `code` is the service's own."""


class RegistryApi:
    """The registry's API. Every method raises ServiceAnsweredBadly."""

    def __init__(self, client: httpx.AsyncClient, url: str, admin_token: str | None) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._headers = bearer(admin_token)

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

    async def import_source(self, model_id: str, request: ImportRequest) -> Job:
        """Start importing a folder, a tar or an S3 prefix that the registry can read."""
        return parsed(Job, await self._ask("POST", f"/models/{model_id}/import", body=request))

    async def verify(self, model_id: str, request: VerifyRequest) -> Job:
        """Start reading a snapshot back."""
        return parsed(Job, await self._ask("POST", f"/models/{model_id}/verify", body=request))

    async def remove(self, model_id: str, revision: str | None, *, force: bool) -> DeletedModel:
        """Delete a model, or one revision of it; with `force` also while workers use it."""
        params = {"revision": revision} if revision else {}
        if force:
            params["force"] = "true"
        answer = await self._ask("DELETE", f"/models/{model_id}", params=params or None, timeout=LONG_S)
        return parsed(DeletedModel, answer)

    async def refs(self, model_id: str) -> Refs:
        """What each ref of a model names."""
        return parsed(Refs, await self._ask("GET", f"/models/{model_id}/refs"))

    async def move_ref(self, model_id: str, ref: str, change: RefChange) -> Refs:
        """Make a ref name another commit; a new ref is made."""
        return parsed(Refs, await self._ask("PUT", _ref(model_id, ref), body=change))

    async def remove_ref(self, model_id: str, ref: str) -> Refs:
        """Forget a ref; what it named stays."""
        return parsed(Refs, await self._ask("DELETE", _ref(model_id, ref)))

    async def collect(self, request: GcRequest) -> GcReport:
        """Remove leftovers, or tell what would be removed."""
        return parsed(GcReport, await self._ask("POST", "/gc", body=request, timeout=LONG_S))

    async def jobs(self) -> JobList:
        """Jobs, newest first."""
        return parsed(JobList, await self._ask("GET", "/jobs"))

    async def job(self, job_id: str) -> Job:
        """One job."""
        return parsed(Job, await self._ask("GET", _job(job_id)))

    async def cancel(self, job_id: str) -> Job:
        """Stop a job."""
        return parsed(Job, await self._ask("POST", f"{_job(job_id)}/cancel"))

    async def events(self, job_id: str) -> AsyncGenerator[Job, None]:
        """The job each time it has changed, until it ends or the stream does."""
        url = f"{self._url}{_job(job_id)}/events"
        timeout = httpx.Timeout(30, read=SILENCE_S)
        try:
            async with self._client.stream("GET", url, headers=self._headers, timeout=timeout) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise refusal(answer)
                async for event in sse.read(answer.aiter_lines()):
                    if event.event == "job":
                        yield _parsed(Job, event.data, url)
        except httpx.HTTPError as error:
            raise away(url, error) from None

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Contract | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        more: dict[str, Any] = {"json": body.model_dump(mode="json")} if body else {}
        if timeout is not None:
            more["timeout"] = httpx.Timeout(30, read=timeout)
        return await asked(
            self._client, method, f"{self._url}{path}", params=params, headers=self._headers, **more
        )


async def asked(client: httpx.AsyncClient, method: str, url: str, **request: Any) -> httpx.Response:
    """The answer of a service, if it is a good one. Raises ServiceAnsweredBadly."""
    try:
        answer = await client.request(method, url, **request)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise away(url, error) from None
    if answer.is_error:
        raise refusal(answer)
    return answer


def parsed(contract: type[C], answer: httpx.Response) -> C:
    """The answer's body as a contract. Raises ServiceAnsweredBadly."""
    return _parsed(contract, answer.content, str(answer.url))


def bearer(admin_token: str | None) -> dict[str, str]:
    """The header that shows the admin token."""
    return {"Authorization": f"Bearer {admin_token}"} if admin_token else {}


def away(url: str, error: Exception) -> ServiceAway:
    """What a broken or refused connection means."""
    return ServiceAway(
        f"{url} cannot be reached: {str(error) or type(error).__name__}; is it running (msp ps)?"
    )


def refusal(answer: httpx.Response) -> ServiceAnsweredBadly:
    """An error answer, its body read, as an exception."""
    status = answer.status_code
    message, code = _told(answer)
    kind = ServiceAway if status in AWAY_STATUSES else ServiceAnsweredBadly
    if 400 <= status < 500:
        kind = ServiceRefused
    request = answer.request
    text = f"{request.method} {request.url} was answered with {status}: {message}"
    return kind(text, status=status, code=code)


def _parsed(contract: type[C], body: bytes | str, url: str) -> C:
    try:
        return contract.model_validate_json(body)
    except ValidationError as error:
        raise ServiceAnsweredBadly(f"{url} answered what this msp does not understand: {error}") from None


def _told(answer: httpx.Response) -> tuple[str, str | None]:
    try:
        error = answer.json()["error"]
        return str(error["message"]), error.get("code")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return answer.text[:300], None


def _ref(model_id: str, ref: str) -> str:
    return f"/models/{model_id}/refs/{quote(ref, safe='')}"


def _job(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"
