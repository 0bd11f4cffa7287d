"""Requests to the server, over httpx."""

import logging
import re
from collections.abc import AsyncGenerator

import httpx

from msp_common.errors import ApiError, Unavailable, UpstreamFailed
from msp_model_service.engines.external.error_translation import translated
from msp_model_service.engines.wire_engine import WireRequest

log = logging.getLogger(__name__)

_CONNECT_S = 5.0
_MAX_ERROR_BYTES = 64 * 1024
_UUID = re.compile(r"^(?:req_)?([0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})$", re.IGNORECASE)


class HttpAnswer:
    """See WireAnswer."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.content_type = response.headers.get("content-type", "")
        self._chunks = self._read()

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """See WireAnswer."""
        return self._chunks

    async def _read(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._response.aiter_raw():
                if chunk:
                    yield chunk
        except httpx.TransportError as error:
            log.warning("the server broke off its answer: %r", error)
            raise UpstreamFailed("The model's server broke off its answer.") from error

    async def aclose(self) -> None:
        """See WireAnswer."""
        await self._chunks.aclose()
        await self._response.aclose()


class Upstream:
    """One connection for each request: a kept one may have died while idle, and a request that failed on it
    may have been begun. Flow control is TCP's own: what a client does not read, the server cannot send."""

    def __init__(self, url: str, *, base_path: str, api_key: str | None) -> None:
        self._base_path = base_path
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    async def open(self, request: WireRequest, *, model_name: str, model_id: str) -> HttpAnswer:
        """The head of a good answer. Raises ApiError."""
        headers = {"Content-Type": request.content_type, "Accept-Encoding": "identity", "Connection": "close"}
        if (their_id := _uuid_in(request.request_id or "")) is not None:
            headers["x-request-id"] = their_id
        sent = self._client.build_request(
            "POST",
            self._base_path + request.path.removeprefix("/v1"),
            content=request.body,
            headers=headers,
        )
        try:
            response = await self._client.send(sent, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            log.warning("the server cannot be reached: %r", error)
            raise Unavailable("The model's server cannot be reached.", retry_after_s=2) from error
        except httpx.TransportError as error:
            log.warning("the server failed before its answer: %r", error)
            raise UpstreamFailed(
                "The model's server failed before it answered.", should_retry=False
            ) from error
        if response.is_success:
            return HttpAnswer(response)
        try:
            raise await _error(response, model_name=model_name, model_id=model_id)
        finally:
            await response.aclose()


def _uuid_in(request_id: str) -> str | None:
    """What of our id a server is told: llama-cpp-python's refuses every request whose id is no UUID.

    Our own ids are one behind a prefix, so that they are found in the server's log all the same.
    """
    found = _UUID.search(request_id)
    return found[1] if found else None


async def _error(response: httpx.Response, *, model_name: str, model_id: str) -> ApiError:
    body = b""
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
    except httpx.TransportError:
        pass  # the status says enough
    retry_after = response.headers.get("retry-after", "")
    return translated(
        response.status_code,
        body,
        retry_after_s=float(retry_after) if retry_after.isdigit() else None,
        model_name=model_name,
        model_id=model_id,
    )
