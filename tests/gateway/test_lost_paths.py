"""Paths and methods that there are not."""

import httpx
import pytest

from msp_gateway.lost_paths import advice_for
from support.gateway_cluster import serving_gateway, worker

KNOWN = {"/v1/chat/completions", "/v1/models"}


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/v1/chat/completions/", "Ask /v1/chat/completions, without further slashes"),
        ("/v1//chat/completions", "Ask /v1/chat/completions, without further slashes"),
        ("/v1/models/", "Ask /v1/models, without further slashes"),
        ("/v1/v1/chat/completions", "/v1 is there more than once: the base URL ends in /v1 already, ask "),
        ("/v1/v1/v1/models/org/a", "ask /v1/models/org/a"),
        ("/chat/completions", "Ask /v1/chat/completions: the base URL ends in /v1"),
        ("/models/", "Ask /v1/models: the base URL ends in /v1"),
    ],
)
def test_a_path_that_is_nearly_right_is_set_right(path: str, advice: str) -> None:
    assert advice in (advice_for(path, KNOWN) or "")


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/models", "/v1/models/org/a", "/health", "/", "", "/v1", "/v1/v1x", "//"],
)
def test_of_other_paths_nothing_is_said(path: str) -> None:
    assert advice_for(path, KNOWN) is None


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/v1/v1/chat/completions", 404, "more than once"),
        ("POST", "/v1/chat/completions/", 404, "without further slashes"),
        ("GET", "/v1/models/", 404, "without further slashes"),
        ("POST", "/v1/images/generations", 404, "No such route: POST /v1/images/generations"),
        ("GET", "/v1/chat/completions", 405, "only POST"),
        ("DELETE", "/v1/models", 405, "does not answer DELETE"),
        ("GET", "/nothing", 404, "No such route"),
    ],
)
async def test_every_wrong_way_ends_in_the_envelope(method: str, path: str, status: int, says: str) -> None:
    with serving_gateway(worker("one")) as gateway:
        async with httpx.AsyncClient() as client:
            answer = await client.request(method, f"{gateway.url}{path}")
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert says in error["message"]
    assert answer.headers["x-request-id"]
    assert (status == 405) == ("allow" in answer.headers)
