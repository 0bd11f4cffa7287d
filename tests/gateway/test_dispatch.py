"""The relayed paths go past FastAPI, and what goes wrong there is told as everywhere."""

import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from msp_gateway.dispatch import RelayDispatcher, put_relay_outside
from msp_gateway.paths import RELAY_PATHS, RelayPath
from support.servers import run_server

CHAT = "/v1/chat/completions"


class Marks:
    """Middleware that leaves a field on every answer."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marking(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-mark", self.name)]}
            await send(message)

        await self.app(scope, receive, marking)


def app_with(serve: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/page")
    async def page() -> str:
        return "page"

    app.add_middleware(Marks, name="inside")
    app.add_middleware(RelayDispatcher, paths=RELAY_PATHS, serve=serve)
    app.add_middleware(Marks, name="outside")
    put_relay_outside(app)
    return app


async def answers(path: RelayPath, scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": path.path.encode()})


async def test_middleware_keeps_its_place_around_the_relay() -> None:
    with run_server(app_with(answers)) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            relayed, page = await client.post(CHAT), await client.get("/page")
    assert (relayed.text, relayed.headers.get_list("x-mark")) == (CHAT, ["outside"])
    assert (page.json(), page.headers.get_list("x-mark")) == ("page", ["inside", "outside"])


async def test_an_unexpected_error_is_answered_in_the_envelope(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(path: RelayPath, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["request_id"] = "req_7"
        raise ZeroDivisionError("secret")

    with caplog.at_level(logging.ERROR), run_server(app_with(breaks)) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post(CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] == "req_7"
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


async def test_an_unexpected_error_within_an_answer_ends_the_connection() -> None:
    async def breaks_later(path: RelayPath, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    with run_server(app_with(breaks_later)) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(CHAT)
