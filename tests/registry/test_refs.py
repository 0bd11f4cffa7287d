"""Refs over HTTP: moved, made, forgotten."""

from collections.abc import AsyncGenerator

import pytest

from msp_common.contracts.models import Refs
from support.registry_files import COMMITS, tiny_model
from support.registry_memory_store import MemoryStore
from support.registry_parts import Client, RegistryParts, error_of, serving

A, B, C = COMMITS


@pytest.fixture
async def registry() -> AsyncGenerator[Client, None]:
    parts = RegistryParts(MemoryStore())
    await parts.publish("org/a", tiny_model())
    await parts.publish("org/a", tiny_model(), commit=B, ref="dev")
    async with serving(parts) as client:
        yield client


async def refs(registry: Client, name: str = "org/a") -> Refs:
    answer = await registry.http.get(f"/models/{name}/refs")
    assert answer.status_code == 200, answer.text
    return Refs.model_validate_json(answer.content)


async def test_refs_and_commits_are_told(registry: Client) -> None:
    told = await refs(registry)
    assert (told.id, told.refs, sorted(told.commits)) == ("org/a", {"main": A, "dev": B}, [A, B])
    assert await refs(registry, "org-a") == await refs(registry, "org%2Fa") == told
    assert error_of(await registry.http.get("/models/org/none/refs"))[:2] == (404, "model_not_found")


@pytest.mark.parametrize("path", ["prod", "refs%2Fpr%2F1", "team/prod", "v1.0"])
@pytest.mark.parametrize("body", [{"commit": B}, {"revision": "dev"}])
async def test_a_channel_is_made_and_moved(registry: Client, path: str, body: dict[str, str]) -> None:
    name = path.replace("%2F", "/")
    made = await registry.http.put(f"/models/org/a/refs/{path}", json={"commit": A})
    assert made.json()["refs"][name] == A
    moved = await registry.http.put(f"/models/org%2Fa/refs/{path}", json=body)
    assert (moved.status_code, moved.json()["refs"]) == (200, {"main": A, "dev": B, name: B})
    forgotten = await registry.http.delete(f"/models/org/a/refs/{path}")
    assert forgotten.json()["refs"] == {"main": A, "dev": B}


async def test_a_ref_names_only_what_is_there(registry: Client) -> None:
    for body in ({"commit": C}, {"revision": "nothing"}):
        assert error_of(await registry.http.put("/models/org/a/refs/prod", json=body))[:2] == (
            404,
            "model_not_found",
        )
    for body in ({}, {"commit": A, "revision": "dev"}, {"commit": "main"}, {"commit": A.upper()}):
        assert (await registry.http.put("/models/org/a/refs/prod", json=body)).status_code == 400
    assert (await refs(registry)).refs == {"main": A, "dev": B}


@pytest.mark.parametrize("name", ["a" * 40, "..%2Fx", "-x", "x" * 300, "a b"])
async def test_impossible_names_of_refs_are_refused(registry: Client, name: str) -> None:
    for answer in (
        await registry.http.put(f"/models/org/a/refs/{name}", json={"commit": A}),
        await registry.http.delete(f"/models/org/a/refs/{name}"),
    ):
        assert error_of(answer)[:2] == (400, "invalid_revision")


async def test_an_unknown_ref_cannot_be_forgotten(registry: Client) -> None:
    status, code, message = error_of(await registry.http.delete("/models/org/a/refs/prod"))
    assert (status, code) == (404, "ref_not_found")
    assert "it has: dev, main" in message


async def test_the_last_ref_may_go_and_the_commit_stays(registry: Client) -> None:
    for name in ("main", "dev"):
        assert (await registry.http.delete(f"/models/org/a/refs/{name}")).status_code == 200
    assert (await refs(registry)).refs == {}
    for commit in (A, B):
        assert (await registry.http.get(f"/models/org/a?revision={commit}")).status_code == 200


async def test_moving_main_needs_the_admin_token_when_it_is_set() -> None:
    parts = RegistryParts(MemoryStore())
    await parts.publish("org/a", tiny_model())
    async with serving(parts, admin_token="s3cret") as registry:
        assert (await registry.http.get("/models/org/a/refs")).status_code == 200
        for method in ("PUT", "DELETE"):
            answer = await registry.http.request(method, "/models/org/a/refs/x", json={"commit": A})
            assert answer.status_code == 401
        token = {"Authorization": "Bearer s3cret"}
        answer = await registry.http.put("/models/org/a/refs/x", json={"commit": A}, headers=token)
        assert answer.status_code == 200
