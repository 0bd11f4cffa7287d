"""The service registry is asked over real HTTP; no answer is told from nobody."""

import httpx
import pytest
from fastapi import FastAPI, Response

from msp_registry.usage import ServiceRegistryUsage, UsageUnknown
from support.servers import free_port, run_server


def service_registry(status: int, body: str) -> FastAPI:
    app = FastAPI()

    @app.get("/workers")
    async def workers() -> Response:
        return Response(body, status, media_type="application/json")

    return app


async def test_an_empty_snapshot_means_nobody() -> None:
    with run_server(service_registry(200, '{"generation": 1, "taken_at": 0, "workers": []}')) as url:
        async with httpx.AsyncClient() as client:
            assert await ServiceRegistryUsage(url, client).workers_of("org/a") == []


@pytest.mark.parametrize(("status", "body"), [(503, "{}"), (200, "{}"), (200, "<html>")])
async def test_an_answer_that_says_nothing_is_not_nobody(status: int, body: str) -> None:
    with run_server(service_registry(status, body)) as url:
        async with httpx.AsyncClient() as client:
            with pytest.raises(UsageUnknown, match=url):
                await ServiceRegistryUsage(url, client).workers_of("org/a")


async def test_no_connection_is_not_nobody() -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(UsageUnknown, match="ConnectError"):
            await ServiceRegistryUsage(f"http://127.0.0.1:{free_port()}", client).workers_of("org/a")
