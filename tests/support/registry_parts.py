"""The registry's parts around one store, and an application of the routes that change and describe models."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI

from msp_common.contracts.jobs import Job
from msp_common.contracts.models import Manifest, ManifestFile
from msp_common.http_app import new_app
from msp_registry.catalogue import Catalogue
from msp_registry.imports.places import ImportPlaces
from msp_registry.imports.s3_prefix import OtherS3
from msp_registry.jobs.jobs import Jobs
from msp_registry.jobs.progress import Progress
from msp_registry.layout import file_key
from msp_registry.metrics import Metrics
from msp_registry.routes import files, health, maintenance, models, openai_models, refs
from msp_registry.routes.raw_paths import OneSegmentIds
from msp_registry.stores.s3_endpoint import parse_endpoint
from msp_registry.stores.store import ObjectStore
from msp_registry.upkeep.collecting import Collector
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.upkeep.scrubbing import Scrubber
from msp_registry.upkeep.verifying import Repairer, Verifier
from msp_registry.usage import UsageUnknown
from support.registry_files import publish

HUB = "http://hub"
NOW = 1_800_000_000.0


class ToldUsage:
    """A Usage that says what it was told; None means that it cannot be asked."""

    def __init__(self, workers: Iterable[str] | None = ()) -> None:
        self.workers = None if workers is None else list(workers)
        self.asked: list[tuple[str, str | None]] = []

    async def workers_of(self, repo_id: str, commit: str | None = None) -> list[str]:
        self.asked.append((repo_id, commit))
        if self.workers is None:
            raise UsageUnknown("the service registry at http://sr cannot be asked: ConnectError")
        return self.workers


class ToldRepairer:
    """A Repairer that puts the bytes it was given; `asked` has the paths it was to repair."""

    def __init__(self, store: ObjectStore, files: dict[str, bytes]) -> None:
        self._store = store
        self._files = files
        self.asked: list[str] = []
        self.failure: Exception | None = None

    async def repair(self, manifest: Manifest, files: Sequence[ManifestFile], progress: Progress) -> None:
        self.asked += [file.path for file in files]
        if self.failure is not None:
            raise self.failure
        for file in files:
            key = file_key(manifest.repo_id, manifest.commit, file.path)
            await self._store.put(key, self._files[file.path])


class RegistryParts:
    """What the routes need, over a store; jobs do what `Work` is told, or verify."""

    def __init__(
        self, store: ObjectStore, *, usage: ToldUsage | None = None, repairer: Repairer | None = None
    ) -> None:
        self.store = store
        self.now = NOW
        self.metrics = Metrics()
        self.catalogue = Catalogue(store)
        self.quarantine = Quarantine(store)
        self.usage = usage or ToldUsage()
        self.verifier = Verifier(
            store, self.catalogue, self.quarantine, self.metrics, repairer=repairer, source=HUB
        )
        self.let_go = asyncio.Event()
        """Jobs that bring something wait for it."""
        self.let_go.set()
        ids = iter(range(1000))
        self.jobs = Jobs(
            store,
            self._work,
            parallel=2,
            clock=self.clock,
            new_id=lambda: f"job-{next(ids)}",
            metrics=self.metrics,
        )
        self.collector = Collector(
            store, self.catalogue, self.jobs, self.quarantine, self.usage, clock=self.clock
        )

    def clock(self) -> float:
        """The time that a test sets."""
        return self.now

    async def publish(self, repo_id: str, files: dict[str, bytes], **how: Any) -> Manifest:
        """As `support.registry_files.publish`."""
        return await publish(self.store, self.catalogue, repo_id, files, **how)

    def counted(self, name: str) -> float:
        """What a metric of ours says."""
        value = self.metrics.registry.get_sample_value(f"msp_registry_{name}")
        assert value is not None
        return value

    async def _work(self, job: Job, progress: Progress) -> None:
        if job.request.kind == "verify":
            await self.verifier.verify(job.repo_id, job.request, progress)
        else:
            await self.let_go.wait()


class Client:
    """A client of the routes, and the parts behind them."""

    def __init__(self, app: FastAPI, parts: RegistryParts, http: httpx.AsyncClient) -> None:
        self.app = app
        self.parts = parts
        self.http = http

    async def ended(self, answer: httpx.Response) -> Job:
        """The job that an answer began, once it has ended."""
        assert answer.status_code == 202, answer.text
        return await self.parts.jobs.wait(answer.json()["id"])


@asynccontextmanager
async def serving(
    parts: RegistryParts,
    *,
    online: bool = False,
    import_roots: Sequence[Path] = (),
    import_s3: bool = False,
    presign_ttl_s: int | None = None,
    admin_token: str | None = None,
    cluster_token: str | None = None,
    scrubber: Scrubber | None = None,
    restore: bool = True,
) -> AsyncGenerator[Client, None]:
    """The routes over HTTP; `restore=False` leaves the jobs and the quarantine of earlier times unread."""
    app = new_app("Registry", "Routes of models.", metrics=parts.metrics.registry)
    app.add_middleware(OneSegmentIds)
    for routes in (models, refs, files, maintenance, openai_models, health):
        app.include_router(routes.router)
    app.state.parts = SimpleNamespace(
        store=parts.store,
        catalogue=parts.catalogue,
        jobs=parts.jobs,
        archives=None,
        collector=parts.collector,
        quarantine=parts.quarantine,
        scrubber=scrubber,
        usage=parts.usage,
        metrics=parts.metrics,
        clock=parts.clock,
        hub_endpoint=HUB if online else None,
        import_places=ImportPlaces(import_roots, _other_s3() if import_s3 else None),
        presign_ttl_s=presign_ttl_s,
        admin_token=admin_token,
        cluster_token=cluster_token,
    )
    if restore:
        await parts.jobs.restore()
        await parts.quarantine.restore()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
        try:
            yield Client(app, parts, http)
        finally:
            await parts.jobs.stop()


def _other_s3() -> OtherS3:
    """A server that is never reached."""
    return OtherS3(parse_endpoint("127.0.0.1:1"), access_key=None, secret_key=None, region="us-east-1")


def error_of(answer: httpx.Response) -> tuple[int, str | None, str]:
    """Status, code and message of an error."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]
