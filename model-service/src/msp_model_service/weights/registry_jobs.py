"""The registry's jobs, over HTTP: asking for a download, and how it goes."""

from typing import Protocol
from urllib.parse import quote

import httpx
from pydantic import SecretStr, ValidationError

from msp_common.contracts.jobs import DownloadRequest, Job
from msp_common.errors import ErrorEnvelope
from msp_model_service.weights.fetch_errors import SourceAway

_TIMEOUT_S = 10.0


class AskRefused(Exception):
    """The registry will not download it. `code` is its error's code, such as `registry_offline`."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class DownloadJobs(Protocol):
    """Asks for downloads and follows them. Calls block; they raise SourceAway without a usable answer."""

    def request(self, model_id: str, revision: str) -> Job:
        """Ask for the download; all who ask for the same meanwhile get the same job. Raises AskRefused."""

    def job(self, job_id: str) -> Job | None:
        """How it goes; None when the registry does not know it any more."""


class RegistryJobs:
    """DownloadJobs of the registry at `base_url`."""

    def __init__(self, base_url: str, cluster_token: SecretStr | None) -> None:
        self._base_url = base_url
        token = cluster_token.get_secret_value() if cluster_token else None
        self._http = httpx.Client(
            base_url=base_url,
            timeout=_TIMEOUT_S,
            trust_env=False,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    def request(self, model_id: str, revision: str) -> Job:
        """See DownloadJobs."""
        body = DownloadRequest(revision=revision).model_dump(mode="json")
        answer = self._answer("POST", f"/models/{model_id}/download", body)
        if answer.is_error:
            raise _refusal(answer)
        return self._read(answer)

    def job(self, job_id: str) -> Job | None:
        """See DownloadJobs."""
        answer = self._answer("GET", f"/jobs/{quote(job_id, safe='')}", None)
        if answer.status_code == 404:
            return None
        if answer.is_error:
            raise SourceAway(
                f"the registry {self._base_url} answered {answer.status_code} when asked for job {job_id}"
            )
        return self._read(answer)

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def _answer(self, method: str, path: str, body: object) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise SourceAway(f"the registry {self._base_url} cannot be reached: {reason}") from error
        if answer.status_code >= 500 or answer.status_code in (408, 425, 429):
            raise SourceAway(f"the registry {self._base_url} answered {answer.status_code}")
        return answer

    def _read(self, answer: httpx.Response) -> Job:
        try:
            return Job.model_validate_json(answer.content)
        except ValidationError as error:
            raise SourceAway(
                f"{self._base_url} answered something that is no job; is REGISTRY_URL right?"
            ) from error


def _refusal(answer: httpx.Response) -> AskRefused:
    try:
        told = ErrorEnvelope.model_validate_json(answer.content).error
    except ValidationError:
        return AskRefused(answer.status_code, None, f"{answer.status_code} {answer.text[:200]}".rstrip())
    return AskRefused(answer.status_code, told.code, told.message)
