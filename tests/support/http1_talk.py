"""How tests ask a worker through the gateway's own client."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from msp_common.tls import trust
from msp_gateway.body import Body, MemoryBody
from msp_gateway.http1.client import Http1Upstream
from msp_gateway.upstream import RawHeaders, UpstreamRequest, UpstreamResponse


@asynccontextmanager
async def http1(
    *, connect_timeout_s: float = 5, extra_ca_file: Path | None = None
) -> AsyncIterator[Http1Upstream]:
    """The client, closed at the end."""
    client = Http1Upstream(connect_timeout_s, trust(extra_ca_file))
    try:
        yield client
    finally:
        await client.aclose()


def post(url: str, body: bytes | Iterable[bytes] | Body = b"{}", headers: RawHeaders = ()) -> UpstreamRequest:
    """A request; `body` in one part, or in several."""
    if isinstance(body, bytes):
        body = MemoryBody([body])
    elif not hasattr(body, "size_bytes"):
        body = MemoryBody(list(body))
    return UpstreamRequest(f"{url}/v1/chat/completions", headers, body)  # type: ignore[arg-type]


async def whole(response: UpstreamResponse) -> bytes:
    """The rest of an answer's body."""
    body = b""
    while chunk := await response.read():
        body += chunk
    return body


async def ask(client: Http1Upstream, url: str, body: bytes = b"{}") -> tuple[int, bytes]:
    """Status and whole body of one answer."""
    response = await client.open(post(url, body))
    try:
        return response.status, await whole(response)
    finally:
        response.close()
