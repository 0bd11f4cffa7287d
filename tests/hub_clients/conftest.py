"""A registry that speaks the hub's protocol on a real port, and clients of three generations."""

import asyncio
from collections.abc import Iterator

import pytest

from support.hub_clients import CURRENT, MANY_FILES, OLD, TINY, Client, Served, python_of
from support.hub_facade import COMMIT, HUB, OTHER_COMMIT, Facade, facade, publish
from support.locked_environments import NoEnvironment, skip_or_fail
from support.registry_files import safetensors
from support.servers import run_server


@pytest.fixture(scope="session", params=[*OLD, CURRENT])
def version(request: pytest.FixtureRequest) -> str:
    """A client's generation."""
    return str(request.param)


@pytest.fixture(scope="session")
def served(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A client of this generation, and a registry of its own.

    Skipped where an old client cannot be installed, but not on CI.
    """
    home = tmp_path_factory.mktemp(f"hub-{version}")
    try:
        python = python_of(version)
    except NoEnvironment as error:
        skip_or_fail(error)
    hub = facade()
    asyncio.run(_fill(hub))
    with run_server(hub.app) as url:
        yield Served(Client(version, python, url, home), hub)


async def _fill(hub: Facade) -> None:
    parts = hub.parts
    await publish(
        parts, "org/tiny", TINY, lfs=["model.safetensors"], source="https://huggingface.co", hub=HUB
    )
    await parts.catalogue.point("org/tiny", "refs/pr/7", COMMIT)
    await publish(parts, "org/prod-only", {"a.json": b"{}"}, commit=OTHER_COMMIT, ref="prod")
    await publish(parts, "bare", {"a.json": b"[]"})
    await publish(parts, "org/many", {f"d{n % 3}/{n:04}.json": b"" for n in range(MANY_FILES)})
    await publish(parts, "org/damaged", {"model.safetensors": safetensors(500)})
    await parts.quarantine.put("org/damaged", COMMIT, {"model.safetensors": "one bit has changed"})
