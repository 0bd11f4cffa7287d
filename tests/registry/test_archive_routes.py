"""A model as a tar over HTTP, from a real server: whole or not at all, whoever leaves when."""

import asyncio
import io
import socket
import tarfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from msp_common.http_app import new_app
from msp_registry.imports.places import ImportPlaces
from msp_registry.jobs.jobs import Jobs, RepoBusy
from msp_registry.metrics import Metrics
from msp_registry.routes import archives, models, refs
from msp_registry.routes.raw_paths import OneSegmentIds
from msp_registry.stores.store import Part
from support.registry_files import tiny_model, write_folder
from support.registry_imports import Importing
from support.registry_memory_store import MemoryStore
from support.registry_parts import ToldUsage, error_of
from support.servers import run_server

LIMIT = 1000
"""What other bodies may have; a tiny tar is longer."""


@dataclass
class Registry:
    """A server's address and what is behind it."""

    url: str
    importing: Importing
    jobs: Jobs
    loop: list[asyncio.AbstractEventLoop]
    metrics: Metrics

    def served_bytes(self) -> float | None:
        return self.metrics.registry.get_sample_value("msp_registry_served_bytes_total")

    async def in_server(self, work: Any) -> Any:
        """Run a coroutine where the server's own tasks run."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop[0]))


@contextmanager
def serving(importing: Importing, *, admin_token: str | None = None) -> Iterator[Registry]:
    metrics = Metrics()
    loops: list[asyncio.AbstractEventLoop] = []

    async def nothing(*_: object) -> None: ...

    jobs = Jobs(
        importing.store, nothing, parallel=1, clock=lambda: 0.0, new_id=lambda: "job", metrics=metrics
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        loops.append(asyncio.get_running_loop())
        await jobs.restore()
        yield

    app = new_app(
        "Registry",
        "Tars.",
        metrics=metrics.registry,
        max_body_bytes=LIMIT,
        takes_stream=archives.takes_stream,
        lifespan=lifespan,
    )
    app.add_middleware(OneSegmentIds)
    app.include_router(models.router)
    app.include_router(refs.router)
    app.include_router(archives.router)
    app.state.parts = SimpleNamespace(
        store=importing.store,
        catalogue=importing.catalogue,
        jobs=jobs,
        archives=importing.archives,
        quarantine=importing.quarantine,
        usage=ToldUsage(),
        metrics=metrics,
        clock=lambda: 0.0,
        hub_endpoint=None,
        import_places=ImportPlaces([]),
        presign_ttl_s=None,
        admin_token=admin_token,
    )
    with run_server(app) as url:
        yield Registry(url, importing, jobs, loops, metrics)


async def tar_of_a_model(folder: Path) -> bytes:
    importing = Importing([folder])
    await importing.take(write_folder(folder / "model", tiny_model(5000)))
    return await importing.export()


async def pieces(data: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), 999):
        yield data[start : start + 999]


async def test_a_model_goes_from_one_registry_to_another(tmp_path: Path) -> None:
    there = Importing([tmp_path])
    commit = await there.take(write_folder(tmp_path / "model", tiny_model(5000)))
    here = Importing()
    with serving(there) as source, serving(here) as target:
        async with httpx.AsyncClient() as http:
            told = await http.head(f"{source.url}/models/org/tiny/archive")
            out = await http.get(f"{source.url}/models/org%2Ftiny/archive")
            assert out.status_code == told.status_code == 200
            assert source.served_bytes() == len(out.content)
            assert out.headers["content-length"] == told.headers["content-length"] == str(len(out.content))
            assert out.headers["content-type"] == "application/x-tar"
            assert out.headers["content-disposition"] == f'attachment; filename="org-tiny-{commit[:12]}.tar"'
            put = await http.put(
                f"{target.url}/models/org/other/archive?revision=prod", content=pieces(out.content)
            )
            assert put.status_code == 201
            assert (put.json()["id"], put.json()["commit"], put.json()["revision"]) == (
                "org/other",
                commit,
                "prod",
            )
            shown = await http.get(f"{target.url}/models/org/other")
            assert shown.json()["manifest"] == put.json()["manifest"]
    with tarfile.open(fileobj=io.BytesIO(out.content)) as tar:
        assert tar.getnames()[0] == ".registry/manifest.json"


async def test_other_bodies_keep_their_limit(tmp_path: Path) -> None:
    with serving(Importing()) as registry:
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{registry.url}/models/org/tiny/import", content=b" " * (LIMIT + 1))
            # A ref may be called as the upload's route ends.
            ref = await http.put(f"{registry.url}/models/org/tiny/refs/archive", content=b" " * (LIMIT + 1))
    assert answer.status_code == ref.status_code == 413


async def test_a_tar_that_is_wrong_is_told_why(tmp_path: Path) -> None:
    data = await tar_of_a_model(tmp_path)
    wrong = data.replace(b"A tiny model", b"A tidy model")
    assert wrong != data
    with serving(Importing()) as registry:
        async with httpx.AsyncClient() as http:
            url = f"{registry.url}/models/org/tiny/archive"
            answer = await http.put(url, content=pieces(wrong))
            assert error_of(answer)[:2] == (400, "bad_archive")
            assert "README.md: sha256" in error_of(answer)[2]
            answer = await http.put(url, content=b"no tar at all".ljust(512))
            assert error_of(answer)[:2] == (400, "bad_archive")
            # By this answer a sender knows, before it sends anything, that a tar would be taken.
            assert error_of(await http.put(url, content=b""))[:2] == (400, "bad_archive")
            answer = await http.put(f"{url}?revision=../x", content=data)
            assert error_of(answer)[:2] == (400, "invalid_revision")
            assert (await http.get(f"{registry.url}/models/org/tiny")).status_code == 404
            assert (await http.get(url)).status_code == 404
    assert registry.importing.store.visible() == set()


async def test_without_room_it_is_told_before_the_files_are_sent(tmp_path: Path) -> None:
    data = await tar_of_a_model(tmp_path)
    with serving(Importing(quota_bytes=100)) as registry:
        async with httpx.AsyncClient() as http:
            answer = await http.put(f"{registry.url}/models/org/tiny/archive", content=data)
    assert error_of(answer)[:2] == (409, "quota_exceeded")


async def test_what_is_quarantined_is_not_given_out(tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    commit = await importing.take(write_folder(tmp_path / "model", tiny_model()))
    await importing.quarantine.put("org/tiny", commit, {"README.md": "sha256"})
    with serving(importing) as registry:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{registry.url}/models/org/tiny/archive")
    assert error_of(answer)[:2] == (409, "file_quarantined")


async def test_a_flipped_bit_ends_the_connection_early(tmp_path: Path) -> None:
    importing = Importing([tmp_path])
    commit = await importing.take(write_folder(tmp_path / "model", tiny_model(5000)))
    key = f"org/tiny/{commit}/README.md"
    importing.store.objects[key] = importing.store.objects[key].replace(b"tiny", b"tidy")
    with serving(importing) as registry:
        async with httpx.AsyncClient() as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"{registry.url}/models/org/tiny/archive")


async def test_only_the_admin_may_put_a_tar(tmp_path: Path) -> None:
    data = await tar_of_a_model(tmp_path)
    with serving(Importing(), admin_token="secret") as registry:
        async with httpx.AsyncClient() as http:
            url = f"{registry.url}/models/org/tiny/archive"
            assert (await http.put(url, content=data)).status_code == 401
            assert registry.importing.store.objects == {}
            allowed = {"authorization": "Bearer secret"}
            assert (await http.put(url, content=data, headers=allowed)).status_code == 201


class Watched(MemoryStore):
    """Tells when the first part of a large file has been stored."""

    def __init__(self) -> None:
        super().__init__()
        self.part_stored = asyncio.Event()

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        part = await super().put_part(key, upload_id, number, data)
        self.part_stored.set()
        return part


async def test_a_sender_that_leaves_midway_leaves_nothing_visible_and_nothing_held(tmp_path: Path) -> None:
    data = await tar_of_a_model(tmp_path)
    store = Watched()
    with serving(Importing(store=store)) as registry:
        host, port = urlsplit(registry.url).hostname, urlsplit(registry.url).port
        head = f"PUT /models/org/tiny/archive HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n"
        sender = socket.create_connection((host, port))
        sender.sendall(head.encode() + data[: len(data) - 9000])
        await registry.in_server(asyncio.wait_for(store.part_stored.wait(), 20))
        async with httpx.AsyncClient() as http:
            url = f"{registry.url}/models/org/tiny/archive"
            assert error_of(await http.put(url, content=data))[:2] == (409, "model_busy")
            sender.close()

            async def let_go() -> None:
                while True:
                    try:
                        async with registry.jobs.exclusive("org/tiny"):
                            return
                    except RepoBusy:
                        await asyncio.sleep(0)

            await registry.in_server(asyncio.wait_for(let_go(), 20))
            assert store.visible() == set()
            assert (await http.put(url, content=data)).status_code == 201
    assert len(store.visible()) == 2
