"""Asking external servers, over real HTTP: keys go along, and nowhere else."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from msp_common.contracts.workers import ReportKind
from msp_service_registry.external.asking import HttpServerAsker, ServerAnswer
from msp_service_registry.external.file import ExternalServerEntry
from support.servers import free_port, run_server


class Vllm:
    """A server with a key, and what it saw."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.healthy = True
        self.redirects_to: str | None = None
        self.seen: list[tuple[str, str | None]] = []

        @self.app.get("/v1/models")
        async def models(request: Request) -> Response:
            self.seen.append(("/v1/models", request.headers.get("authorization")))
            if self.redirects_to:
                return RedirectResponse(self.redirects_to)
            if request.headers.get("authorization") != "Bearer s3cret":
                return JSONResponse({"error": {"message": "no"}}, 401)
            return JSONResponse({"data": [{"id": "large"}]})

        @self.app.get("/health")
        async def health(request: Request) -> Response:
            self.seen.append(("/health", request.headers.get("authorization")))
            return Response(status_code=200 if self.healthy else 500)


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
def url(vllm: Vllm) -> Iterator[str]:
    with run_server(vllm.app) as url:
        yield url


async def ask(url: str, environ: dict[str, str] | None = None, **about: object) -> ServerAnswer:
    server = ExternalServerEntry.model_validate(
        {"name": "big", "url": url, "models": [{"id": "org/large", "type": "llm"}], **about}
    )
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return await HttpServerAsker(client, environ or {}, 5).ask(server)


KEY = {"BIG_API_KEY": "s3cret"}


async def test_a_server_is_asked_with_its_own_key_and_tells_its_models(url: str, vllm: Vllm) -> None:
    answer = await ask(url, KEY, api_key_env="BIG_API_KEY", health_path="/health")
    assert answer == ServerAnswer(models=frozenset({"large"}))
    assert vllm.seen == [("/health", "Bearer s3cret"), ("/v1/models", "Bearer s3cret")]


async def test_a_key_that_is_not_set_is_named_and_nothing_is_sent(url: str, vllm: Vllm) -> None:
    answer = await ask(url, {}, api_key_env="BIG_API_KEY")
    assert (answer.fault, answer.detail) == (
        ReportKind.REFUSED,
        "BIG_API_KEY is not set for the service registry",
    )
    assert vllm.seen == []


async def test_a_wrong_key_is_told_as_such(url: str) -> None:
    answer = await ask(url)
    assert (answer.fault, answer.detail) == (
        ReportKind.SERVER_ERROR,
        "/v1/models answered 401; is the key right?",
    )


async def test_an_engine_that_died_behind_its_server_is_a_fault(url: str, vllm: Vllm) -> None:
    vllm.healthy = False
    answer = await ask(url, KEY, api_key_env="BIG_API_KEY", health_path="/health")
    assert answer == ServerAnswer(ReportKind.SERVER_ERROR, "/health answered 500")


async def test_a_redirect_is_not_followed_so_the_key_stays_here(url: str, vllm: Vllm) -> None:
    elsewhere = Vllm()
    with run_server(elsewhere.app) as other:
        vllm.redirects_to = f"{other}/v1/models"
        answer = await ask(url, KEY, api_key_env="BIG_API_KEY")
    assert answer.fault is ReportKind.SERVER_ERROR
    assert elsewhere.seen == []


async def test_nobody_there_is_a_refusal() -> None:
    answer = await ask(f"http://127.0.0.1:{free_port()}")
    assert answer.fault is ReportKind.REFUSED
