"""The registry's application in this process, for tests of its routes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from msp_common.contracts.jobs import Job
from msp_registry.app import create_app
from msp_registry.assembly import Collaborators
from msp_registry.settings import RegistrySettings


def settings(folder: Path, **environ: str) -> RegistrySettings:
    """Settings of a registry over a folder store below `folder`, which may import from `folder/models`."""
    return RegistrySettings.load(
        {
            "REGISTRY_STORE": f"file://{folder}/store",
            "REGISTRY_IMPORT_ROOTS": str(folder / "models"),
            "REGISTRY_MODE": "offline",
            **environ,
        }
    )


class RunningRegistry:
    """A client of a running application."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient) -> None:
        self.app = app
        self.http = http

    async def ended(self, answer: httpx.Response) -> Job:
        """The job that an answer began, once it has ended."""
        assert answer.status_code == 202, answer.text
        return await self.app.state.parts.jobs.wait(answer.json()["id"])  # type: ignore[no-any-return]

    async def bring(self, name: str, folder: Path, revision: str = "main") -> Job:
        """Import a folder and wait for the job."""
        body = {"source": str(folder), "revision": revision}
        return await self.ended(await self.http.post(f"/models/{name}/import", json=body))


@asynccontextmanager
async def running(settings: RegistrySettings, **collaborators: Any) -> AsyncGenerator[RunningRegistry, None]:
    """Start the application, lifespan included, and stop it."""
    app = create_app(settings, Collaborators(**collaborators))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://registry") as http,
    ):
        await asyncio.wait_for(app.state.parts.jobs.restored.wait(), 20)
        yield RunningRegistry(app, http)
