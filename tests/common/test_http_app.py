"""Every answer of every program has a request id, and every error OpenAI's envelope."""

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from msp_common.errors import ModelNotFound, Unavailable
from msp_common.http_app import new_app


class Order(BaseModel):
    count: int


@pytest.fixture
def app() -> FastAPI:
    app = new_app("Shop", "A shop", metrics=CollectorRegistry())

    @app.post("/orders")
    async def order(order: Order) -> Order:
        return order

    @app.get("/missing")
    async def missing() -> None:
        raise ModelNotFound("no model 'x'", param="model")

    @app.get("/busy")
    async def busy() -> None:
        raise Unavailable("loading", retry_after_s=400, should_retry=True)

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("secret detail")

    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://shop")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param", "code"),
    [
        ("GET", "/nowhere", None, 404, None, "not_found"),
        ("GET", "/orders", None, 405, None, "method_not_allowed"),
        ("POST", "/orders", b"{", 400, None, "invalid_json"),
        ("POST", "/orders", b"", 400, None, "invalid_json"),
        ("POST", "/orders", b'{"count": "many"}', 400, "count", "invalid_value"),
        ("GET", "/missing", None, 404, "model", "model_not_found"),
        ("GET", "/bug", None, 500, None, "internal_error"),
    ],
)
async def test_errors_have_openais_envelope(
    app: FastAPI, method: str, path: str, body: bytes | None, status: int, param: str | None, code: str
) -> None:
    async with client(app) as http:
        answer = await http.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, code)
    assert "secret detail" not in answer.text
    assert answer.headers["x-request-id"]


async def test_retry_advice_stays_within_what_clients_honour(app: FastAPI) -> None:
    async with client(app) as http:
        answer = await http.get("/busy")
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("120", "true")


async def test_a_clients_own_request_id_is_kept_only_when_it_is_plain(app: FastAPI) -> None:
    async with client(app) as http:
        kept = await http.get("/livez", headers={"X-Client-Request-Id": "order-7"})
        replaced = await http.get("/livez", headers={"X-Request-Id": "a b\tc"})
    assert kept.headers["x-request-id"] == "order-7"
    assert replaced.headers["x-request-id"].startswith("req_")


async def test_documentation_loads_nothing_from_elsewhere(app: FastAPI) -> None:
    async with client(app) as http:
        page = (await http.get("/docs")).text
    assert "swagger-ui" in page
    assert "https://" not in page


async def test_metrics_tell_of_the_process_too(app: FastAPI) -> None:
    async with client(app) as http:
        told = (await http.get("/metrics")).text
    for name in ("process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{name} " in told, name
