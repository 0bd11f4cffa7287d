"""Every route of the real application that changes something needs the admin's token."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from support.registry_app import RunningRegistry, running, settings

ADMIN, CLUSTER = "the-admins-token", "the-clusters-token"

OPEN_TO_ALL = {
    # The hub's protocol: a question whose paths stand in its body, and the refusal of everything else.
    "/api/models/{name}/paths-info/{revision}",
    "/api/{rest:path}",
}
OPEN_TO_WORKERS = {"/models/{name}/download"}

VALUES = {"name": "org%2Ftiny", "ref": "prod", "job_id": "x", "revision": "main", "rest": "x"}


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncGenerator[RunningRegistry, None]:
    tokens = {"REGISTRY_ADMIN_TOKEN": ADMIN, "CLUSTER_TOKEN": CLUSTER}
    async with running(settings(tmp_path, **tokens)) as registry:
        yield registry


def changing(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of each route that is not only asked."""
    found = set()
    for route in iter_route_contexts(app.routes):
        found |= {(method, str(route.path)) for method in (route.methods or set()) - {"GET", "HEAD"}}
    return sorted(found)


def address(path: str) -> str:
    return re.sub(r"{(\w+)(?::\w+)?}", lambda match: VALUES[match[1]], path)


async def test_no_change_without_the_admins_token(registry: RunningRegistry) -> None:
    routes = changing(registry.app)
    guarded = [(method, path) for method, path in routes if path not in OPEN_TO_ALL]
    assert len(guarded) == 9, guarded
    for method, path in guarded:
        for shown in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {ADMIN}"}):
            answer = await registry.http.request(method, address(path), headers=shown)
            assert answer.status_code == 401, (method, path, shown)
        known = await registry.http.request(
            method, address(path), headers={"Authorization": f"Bearer {ADMIN}"}
        )
        assert known.status_code != 401, (method, path)


async def test_the_clusters_token_is_good_for_downloads_alone(registry: RunningRegistry) -> None:
    shown = {"Authorization": f"Bearer {CLUSTER}"}
    for method, path in changing(registry.app):
        if path not in OPEN_TO_ALL:
            answer = await registry.http.request(method, address(path), headers=shown)
            assert (answer.status_code != 401) == (path in OPEN_TO_WORKERS), (method, path)


async def test_what_is_open_to_all_changes_nothing(registry: RunningRegistry, tmp_path: Path) -> None:
    before = sorted((tmp_path / "store").rglob("*"))
    for method, path in changing(registry.app):
        if path in OPEN_TO_ALL:
            answer = await registry.http.request(method, address(path))
            assert answer.status_code in (400, 404), (method, path)
    assert sorted((tmp_path / "store").rglob("*")) == before
