"""Asking an external server whether it works, and which models it has."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx

from msp_common.contracts.workers import ReportKind
from msp_service_registry.external.file import ExternalServerEntry

MAX_LIST_BYTES = 4 << 20


@dataclass(frozen=True)
class ServerAnswer:
    """What was found. `fault` is null where the server works; `models` is null where it lists none."""

    fault: ReportKind | None = None
    detail: str = ""
    models: frozenset[str] | None = None


class ServerAsker(Protocol):
    """What asks servers how they are."""

    async def ask(self, server: ExternalServerEntry) -> ServerAnswer:
        """Never raises for what a network or a server can do."""


class HttpServerAsker:
    """Asks `/v1/models`, with the server's key, and its health route where it has one."""

    def __init__(self, client: httpx.AsyncClient, environ: Mapping[str, str], timeout_s: float) -> None:
        """`environ` holds the keys; `client` must follow no redirects, or keys would follow them."""
        self._client = client
        self._environ = environ
        self._timeout_s = timeout_s

    async def ask(self, server: ExternalServerEntry) -> ServerAnswer:
        """See ServerAsker."""
        headers = {}
        if server.api_key_env is not None:
            if not (key := self._environ.get(server.api_key_env)):
                return ServerAnswer(
                    ReportKind.REFUSED, f"{server.api_key_env} is not set for the service registry"
                )
            headers["Authorization"] = f"Bearer {key}"
        path = "/v1/models"
        try:
            async with asyncio.timeout(self._timeout_s):
                if server.health_path is not None:
                    path = server.health_path
                    answer = await self._client.get(f"{server.url}{path}", headers=headers)
                    if answer.status_code != 200:
                        return _not_200(path, answer.status_code)
                path = "/v1/models"
                answer = await self._client.get(f"{server.url}{path}", headers=headers)
        except TimeoutError:
            return ServerAnswer(ReportKind.STALLED, f"{path} gave no answer within {self._timeout_s:g} s")
        except httpx.RemoteProtocolError as error:
            return ServerAnswer(ReportKind.GARBAGE, f"{path}: {error}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return ServerAnswer(ReportKind.REFUSED, f"{path}: {str(error) or type(error).__name__}")
        if answer.status_code != 200:
            return _not_200(path, answer.status_code)
        return ServerAnswer(models=_listed(answer))


def _not_200(path: str, status: int) -> ServerAnswer:
    hint = "; is the key right?" if status in (401, 403) else ""
    return ServerAnswer(ReportKind.SERVER_ERROR, f"{path} answered {status}{hint}")


def _listed(answer: httpx.Response) -> frozenset[str] | None:
    if len(answer.content) > MAX_LIST_BYTES:
        return None
    try:
        return frozenset(str(model["id"]) for model in answer.json()["data"])
    except (ValueError, KeyError, TypeError):
        return None
