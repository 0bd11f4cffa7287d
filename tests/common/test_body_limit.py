"""A body over the limit is refused, announced or not, and costs nobody else anything."""

from collections.abc import AsyncIterator

import httpx
from fastapi import Request
from prometheus_client import CollectorRegistry

from msp_common.http_app import new_app


def client() -> httpx.AsyncClient:
    app = new_app(
        "Post",
        "Takes parcels",
        metrics=CollectorRegistry(),
        max_body_bytes=10,
        takes_stream=lambda scope: scope["path"] == "/containers",
    )

    @app.post("/containers")
    async def container(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @app.post("/parcels")
    async def parcel(request: Request) -> int:
        return len(await request.body())

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://post")


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_within_the_limit_arrives_whole() -> None:
    async with client() as http:
        assert (await http.post("/parcels", content=chunks(b"12345", b"67890"))).json() == 10


async def test_an_announced_body_over_the_limit_is_413() -> None:
    async with client() as http:
        answer = await http.post("/parcels", content=b"x" * 11)
    assert answer.status_code == 413
    assert answer.json()["error"]["param"] == "body"
    assert answer.headers["x-request-id"]


async def test_a_chunked_body_over_the_limit_is_413() -> None:
    async with client() as http:
        answer = await http.post("/parcels", content=chunks(b"12345", b"67890", b"1"))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "payload_too_large"


async def test_a_route_that_takes_streams_has_no_limit() -> None:
    async with client() as http:
        assert (await http.post("/containers", content=b"x" * 11)).json() == 11
        assert (await http.post("/containers", content=chunks(b"12345", b"67890", b"1"))).json() == 11
