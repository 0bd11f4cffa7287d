"""Servers that many tests of the registry need: real stores, and a hub whose content each test chooses."""

from collections.abc import AsyncGenerator, Iterator

import httpx
import pytest

from support.fake_hub import FakeHub, FakeRepo
from support.registry_files import tiny_model
from support.registry_minio import MinioServer, run_minio
from support.registry_mirroring import Mirroring, Switchboard
from support.registry_versitygw import VersitygwServer, run_versitygw
from support.servers import run_server


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with run_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="module")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VersitygwServer]:
    with run_versitygw(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub({"org/tiny": FakeRepo(tiny_model(20_000))})


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Switchboard, str]]:
    switchboard = Switchboard()
    with run_server(switchboard) as url:
        yield switchboard, url


@pytest.fixture
async def mirroring(hub: FakeHub, served: tuple[Switchboard, str]) -> AsyncGenerator[Mirroring, None]:
    switchboard, url = served
    switchboard.hub = hub
    async with httpx.AsyncClient() as client:
        yield Mirroring(hub, url, client)
    hub.release.set()
