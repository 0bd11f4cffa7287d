"""Workers over httpx."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import h11
import httpx

from msp_gateway.body import Body
from msp_gateway.upstream import (
    RawHeaders,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamRequest,
    UpstreamReset,
)


class HttpxResponse:
    """One answer."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: RawHeaders = [(name.lower(), value) for name, value in response.headers.raw]
        self._chunks = self._read()

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        return self._chunks

    async def _read(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._response.aiter_raw():
                if chunk:
                    yield chunk
        except httpx.TransportError as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        """End the exchange."""
        await self._chunks.aclose()
        await self._response.aclose()


class HttpxUpstream:
    """One connection for each request: a kept one may have died while idle, and httpx does not say whether
    a request that failed on it had been sent."""

    def __init__(self, connect_timeout_s: float) -> None:
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=connect_timeout_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def open(self, request: UpstreamRequest) -> HttpxResponse:
        """Send the request and wait for the head of the answer."""
        size = str(request.body.size_bytes).encode()
        sent = self._client.build_request(
            "POST",
            request.url,
            headers=[*request.headers, (b"content-length", size), (b"connection", b"close")],
            content=_async(request.body),
        )
        try:
            return HttpxResponse(await self._client.send(sent, stream=True))
        except httpx.TransportError as error:
            raise _translated(error) from error


async def _async(body: Body) -> AsyncIterator[bytes]:
    for chunk in body.chunks():
        yield chunk


def _translated(error: httpx.TransportError) -> UpstreamError:
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)):
        return UpstreamRefused(detail)
    # An early end is h11's error too once the head has arrived; only what cannot be parsed is garbage.
    if any(isinstance(cause, h11.RemoteProtocolError) for cause in _causes(error)) and (
        "peer closed connection" not in detail
    ):
        return UpstreamGarbage(detail)
    return UpstreamReset(detail)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # httpcore raises again `from None`, which leaves the original only as context.
        error = error.__cause__ or error.__context__
