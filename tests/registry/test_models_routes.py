"""Models over HTTP: names, listing, describing, asking for jobs, deleting."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from msp_common.contracts.jobs import ImportRequest, Job, JobState
from msp_common.contracts.models import DeletedModel, ModelInfo, ModelList
from msp_registry.layout import quarantine_key
from support.registry_files import COMMITS, tiny_model, write_folder
from support.registry_memory_store import MemoryStore
from support.registry_parts import HUB, Client, RegistryParts, ToldRepairer, ToldUsage, error_of, serving

A, B, C = COMMITS
MODEL = tiny_model(1000)


class SigningStore(MemoryStore):
    """A store that gives out signed addresses."""

    async def presigned_url(self, key: str, expires_s: int) -> str | None:
        return f"http://s3/{key}?for={expires_s}"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def usage() -> ToldUsage:
    return ToldUsage()


@pytest.fixture
def parts(store: MemoryStore, usage: ToldUsage) -> RegistryParts:
    return RegistryParts(store, usage=usage)


@pytest.fixture
async def registry(parts: RegistryParts) -> AsyncGenerator[Client, None]:
    async with serving(parts) as client:
        yield client


async def info(registry: Client, name: str, **params: str) -> ModelInfo:
    answer = await registry.http.get(f"/models/{name}", params=params)
    assert answer.status_code == 200, answer.text
    return ModelInfo.model_validate_json(answer.content)


@pytest.mark.parametrize(
    ("name", "repo_id"),
    [
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("a-b", "a/b"),
        ("bare", "bare"),
        ("download", "download"),
        ("a/download", "a/download"),
        ("models/import", "models/import"),
    ],
)
async def test_every_way_to_write_an_id_reaches_the_model(registry: Client, name: str, repo_id: str) -> None:
    await registry.parts.publish(repo_id, MODEL)
    assert (await info(registry, name)).id == repo_id
    assert (await registry.http.get(f"/v1/models/{name}")).json()["id"] == repo_id
    for url in (await info(registry, name)).urls:
        assert (await registry.http.get(url.url)).content == MODEL[url.path]
    verified = await registry.ended(await registry.http.post(f"/models/{name}/verify"))
    assert (verified.state, verified.repo_id) == (JobState.SUCCEEDED, repo_id)
    assert (await registry.http.delete(f"/models/{name}")).json()["id"] == repo_id
    assert (await registry.http.get(f"/models/{name}")).status_code == 404


@pytest.mark.parametrize(
    "name",
    [
        "a/b/c",
        "a%2F..%2Fb",
        "..%2Fa",
        "a%00b",
        "a%252Fb",
        "x" * 10_000,
        "x" * 194,
        "%20",
        "a//b",
        "a/" + "0" * 40,
        ".registry",
    ],
)
async def test_hostile_names_are_refused_by_every_route(
    registry: Client, store: MemoryStore, name: str
) -> None:
    for method, path, body in (
        ("GET", f"/models/{name}", None),
        ("DELETE", f"/models/{name}", None),
        ("POST", f"/models/{name}/download", {}),
        ("POST", f"/models/{name}/import", {"source": "/x"}),
        ("POST", f"/models/{name}/verify", {}),
        ("GET", f"/models/{name}/refs", None),
        ("GET", f"/v1/models/{name}", None),
    ):
        answer = await registry.http.request(method, path, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "name"
    # Three segments before `refs` are no path of this route at all.
    moved = await registry.http.put(f"/models/{name}/refs/main", json={"commit": A})
    assert moved.status_code in (400, 405)
    assert store.puts == store.deletes == []


async def test_a_name_that_two_models_share_is_told_with_both(registry: Client, store: MemoryStore) -> None:
    for repo_id in ("a-b/c", "a/b-c", "a-b-c"):
        await registry.parts.publish(repo_id, MODEL)
    store.puts.clear()
    for method, path, body in (
        ("GET", "/models/a-b-c", None),
        ("DELETE", "/models/a-b-c", None),
        ("POST", "/models/a-b-c/import", {"source": "/x"}),
        ("POST", "/models/a-b-c/download", {}),
    ):
        status, code, message = error_of(await registry.http.request(method, path, json=body))
        assert (status, code) == (409, "ambiguous_model")
        assert "a-b-c, a-b/c, a/b-c" in message
    assert store.puts == store.deletes == []
    assert (await info(registry, "a-b/c")).id == "a-b/c"


async def test_a_model_describes_itself(registry: Client, usage: ToldUsage) -> None:
    await registry.parts.publish("org/tiny", MODEL)
    await registry.parts.publish("org/tiny", MODEL, commit=B, ref="v1")
    usage.workers = ["llm-1"]
    for params, commit in (({}, A), ({"revision": "v1"}, B), ({"revision": B}, B)):
        found = await info(registry, "org/tiny", **params)
        assert (found.commit, found.refs) == (commit, {"main": A, "v1": B})
        assert (found.manifest.commit, found.used_by, found.quarantined) == (commit, ["llm-1"], {})
    assert usage.asked == [("org/tiny", A), ("org/tiny", B), ("org/tiny", B)]
    usage.workers = None
    assert (await info(registry, "org/tiny")).used_by is None
    status, code, message = error_of(await registry.http.get("/models/org/tiny?revision=v2"))
    assert (status, code) == (404, "model_not_found")
    assert f"it has: {A}, {B}, main, v1" in message


async def test_the_list_has_all_that_is_published(registry: Client) -> None:
    await registry.parts.publish("org/b", MODEL)
    await registry.parts.publish("a", MODEL)
    await registry.parts.quarantine.put("a", A, {"config.json": "wrong"})
    listed = ModelList.model_validate_json((await registry.http.get("/models")).content)
    assert [(m.id, m.quarantined) for m in listed.models] == [("a", True), ("org/b", False)]
    openai = (await registry.http.get("/v1/models")).json()
    assert openai == {
        "object": "list",
        "data": [
            {"id": "a", "object": "model", "created": 0, "owned_by": "local"},
            {"id": "org/b", "object": "model", "created": 0, "owned_by": "org"},
        ],
    }
    assert (await registry.http.get("/v1/models/org/none")).json()["error"]["code"] == "model_not_found"


async def test_signed_urls_are_given_but_not_for_bad_files() -> None:
    parts = RegistryParts(SigningStore())
    await parts.publish("org/tiny", MODEL)
    await parts.quarantine.put("org/tiny", A, {"config.json": "wrong"})
    async with serving(parts, presign_ttl_s=60) as registry:
        urls = {url.path: url for url in (await info(registry, "org/tiny")).urls}
    assert urls["README.md"].url == f"http://s3/org/tiny/{A}/README.md?for=60"
    assert urls["README.md"].expires_at == parts.now + 60
    assert urls["config.json"].url == f"/files/org%2Ftiny/{A}/config.json"


async def test_an_unknown_model_says_how_to_bring_it(registry: Client) -> None:
    assert error_of(await registry.http.get("/models/org/none")) == (
        404,
        "model_not_found",
        "the registry holds no model 'org/none'. Bring it with POST /models/org/none/import.",
    )


@pytest.mark.parametrize("revision", ["../x", "a//b", "/main", "x" * 300, "a b", "-x"])
async def test_impossible_revisions_are_refused(registry: Client, tmp_path: Path, revision: str) -> None:
    await registry.parts.publish("a/b", MODEL)
    for answer in (
        await registry.http.get("/models/a/b", params={"revision": revision}),
        await registry.http.delete("/models/a/b", params={"revision": revision}),
        await registry.http.post("/models/a/b/import", json={"source": "/x", "revision": revision}),
        await registry.http.post("/models/a/b/verify", json={"revision": revision}),
    ):
        assert error_of(answer)[:2] == (400, "invalid_revision")
    assert (await info(registry, "a/b")).commit == A


async def test_only_sources_below_the_roots_are_imported(parts: RegistryParts, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "models" / "tiny", MODEL)
    outside = write_folder(tmp_path / "models-too", MODEL)
    (tmp_path / "models" / "link").symlink_to(outside)
    async with serving(parts, import_roots=[tmp_path / "models"]) as registry:
        for asked in (outside, tmp_path, folder / ".." / ".." / "models-too", tmp_path / "models" / "link"):
            answer = await registry.http.post("/models/a/b/import", json={"source": str(asked)})
            assert error_of(answer)[:2] == (403, "folder_not_allowed")
            assert "REGISTRY_IMPORT_ROOTS=" in answer.text
        for odd in ("relative", "", "/a\0b", "file:///etc"):
            answer = await registry.http.post("/models/a/b/import", json={"source": odd})
            assert error_of(answer)[:2] == (403, "folder_not_allowed")
        assert parts.jobs.all() == []
        body = {"source": str(folder), "revision": "v1"}
        job = await registry.ended(await registry.http.post("/models/a/b/import", json=body))
    assert (job.repo_id, job.request) == ("a/b", ImportRequest(source=str(folder), revision="v1"))


async def test_another_s3_server_is_imported_from_only_when_there_is_one(parts: RegistryParts) -> None:
    body = {"source": "s3://bucket/models/tiny"}
    async with serving(parts) as registry:
        status, code, message = error_of(await registry.http.post("/models/a/b/import", json=body))
        assert (status, code) == (403, "folder_not_allowed")
        assert "set REGISTRY_IMPORT_S3_ENDPOINT" in message
    async with serving(parts, import_s3=True) as registry:
        assert (await registry.http.post("/models/a/b/import", json=body)).status_code == 202


async def test_an_imports_commit_cannot_be_chosen(registry: Client) -> None:
    answer = await registry.http.post("/models/a/b/import", json={"source": "/x", "revision": A})
    assert error_of(answer)[:2] == (400, "invalid_revision")


async def test_an_offline_registry_points_to_the_import(registry: Client) -> None:
    status, code, message = error_of(await registry.http.post("/models/org/tiny/download", json={}))
    assert (status, code) == (409, "registry_offline")
    assert "POST /models/org/tiny/import" in message


async def test_the_same_download_is_one_job_and_holds_off_a_deletion(parts: RegistryParts) -> None:
    parts.let_go.clear()
    await parts.publish("a/b", MODEL)
    async with serving(parts, online=True) as registry:
        first = await registry.http.post("/models/a/b/download", json={"revision": "main"})
        again = await registry.http.post("/models/a%2Fb/download")
        assert first.json()["id"] == again.json()["id"]
        by_its_dash_form = await registry.http.post("/models/a-b/download")
        assert Job.model_validate(by_its_dash_form.json()).id == first.json()["id"]
        other = await registry.http.post("/models/a/b/download", json={"allow_pickle": True})
        assert other.json()["id"] != first.json()["id"]
        for force in ("false", "true"):
            answer = await registry.http.delete(f"/models/a/b?force={force}")
            assert error_of(answer)[:2] == (409, "model_busy")
        parts.let_go.set()
        await registry.ended(first)
        await registry.ended(other)
        assert (await registry.http.delete("/models/a/b")).status_code == 200


async def test_a_verification_repairs_only_when_asked(store: MemoryStore) -> None:
    repairer = ToldRepairer(store, MODEL)
    parts = RegistryParts(store, repairer=repairer)
    await parts.publish("a/b", MODEL, source=HUB)
    store.objects[f"a/b/{A}/config.json"] = b"{}"
    async with serving(parts) as registry:
        failed = await registry.ended(await registry.http.post("/models/a/b/verify", json={"repair": False}))
        assert failed.error is not None
        assert (failed.state, failed.error.code, failed.error.retryable) == (
            JobState.FAILED,
            "corrupt",
            False,
        )
        assert [(bad.path, bad.repaired) for bad in failed.bad_files] == [("config.json", False)]
        assert list((await info(registry, "a/b")).quarantined) == ["config.json"]
        assert quarantine_key("a/b", A) in store.objects
        repaired = await registry.ended(await registry.http.post("/models/a/b/verify"))
        assert repaired.state is JobState.SUCCEEDED
        assert repairer.asked == ["config.json"]
        assert (await info(registry, "a/b")).quarantined == {}
        unknown = await registry.http.post("/models/a/b/verify", json={"revision": "v9"})
        assert error_of(unknown)[:2] == (404, "model_not_found")


async def test_deleting_takes_one_model_and_leaves_its_neighbours(registry: Client) -> None:
    for name in ("org", "org/tiny", "org/tiny2"):
        await registry.parts.publish(name, MODEL)
    answer = await registry.http.delete("/models/org")
    deleted = DeletedModel.model_validate_json(answer.content)
    assert (deleted.commits, deleted.refs, deleted.objects) == ([A], ["main"], len(MODEL) + 2)
    assert deleted.freed_bytes > sum(map(len, MODEL.values()))
    await registry.http.delete("/models/org/tiny")
    names = [m["id"] for m in (await registry.http.get("/models")).json()["models"]]
    assert names == ["org/tiny2"]
    assert (await registry.http.delete("/models/org/tiny")).status_code == 404


async def test_one_revision_is_deleted_with_its_refs_and_its_quarantine(registry: Client) -> None:
    await registry.parts.publish("org/tiny", MODEL)
    await registry.parts.publish("org/tiny", MODEL, commit=B, ref="v2")
    await registry.parts.quarantine.put("org/tiny", B, {"config.json": "wrong"})
    await registry.http.put("/models/org/tiny/refs/prod", json={"commit": B})
    deleted = (await registry.http.delete("/models/org/tiny?revision=prod")).json()
    assert (deleted["commits"], deleted["refs"]) == ([B], ["prod", "v2"])
    assert registry.parts.quarantine.files() == 0
    assert (await info(registry, "org/tiny")).refs == {"main": A}
    assert error_of(await registry.http.delete(f"/models/org/tiny?revision={B}"))[:2] == (
        404,
        "model_not_found",
    )


async def test_a_model_in_use_is_deleted_only_by_force_which_says_what_broke(
    registry: Client, usage: ToldUsage
) -> None:
    await registry.parts.publish("org/tiny", MODEL)
    await registry.parts.publish("org/tiny", MODEL, commit=B, ref="v2")
    usage.workers = ["llm-1", "llm-2"]
    status, code, message = error_of(await registry.http.delete("/models/org/tiny"))
    assert (status, code) == (409, "model_in_use")
    assert "llm-1, llm-2" in message
    assert error_of(await registry.http.delete("/models/org/tiny?revision=v2"))[:2] == (409, "model_in_use")
    assert usage.asked == [("org/tiny", None), ("org/tiny", B)]
    forced = (await registry.http.delete("/models/org/tiny?revision=v2&force=true")).json()
    assert forced["broke"] == ["llm-1", "llm-2"]
    usage.workers = None
    status, code, message = error_of(await registry.http.delete("/models/org/tiny"))
    assert (status, code) == (409, "usage_unknown")
    assert "?force=true" in message
    assert (await info(registry, "org/tiny")).commit == A
    assert (await registry.http.delete("/models/org/tiny?force=true")).json()["broke"] == []


async def test_nothing_is_deleted_before_the_jobs_of_earlier_processes_are_known(
    parts: RegistryParts,
) -> None:
    await parts.publish("org/tiny", MODEL)
    async with serving(parts, restore=False) as registry:
        for answer in (
            await registry.http.delete("/models/org/tiny"),
            await registry.http.post("/gc", json={"dry_run": False}),
        ):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await info(registry, "org/tiny")).commit == A


async def test_workers_may_ask_for_a_download_with_the_clusters_token_and_for_nothing_else(
    parts: RegistryParts,
) -> None:
    await parts.publish("a/b", MODEL)
    shown = {"Authorization": "Bearer cluster"}
    async with serving(parts, online=True, admin_token="s3cret", cluster_token="cluster") as registry:
        assert (await registry.http.post("/models/a/b/download", headers=shown)).status_code == 202
        for method, path in (("POST", "/models/a/b/verify"), ("DELETE", "/models/a/b"), ("POST", "/gc")):
            assert (await registry.http.request(method, path, headers=shown)).status_code == 401
        for token in ("s3cret", "other"):
            answer = await registry.http.post(
                "/models/a/b/download", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == (202 if token == "s3cret" else 401)


async def test_changing_routes_need_the_admin_token_when_it_is_set(parts: RegistryParts) -> None:
    await parts.publish("a/b", MODEL)
    async with serving(parts, admin_token="s3cret-ü", import_s3=True) as registry:
        for token in (None, "Bearer wrong", "Basic s3cret-ü", "s3cret-ü", "Bearer "):
            headers = {b"Authorization": token.encode()} if token else {}
            for method, path, body in (
                ("POST", "/models/a/b/import", {"source": "s3://x/y"}),
                ("POST", "/models/a/b/download", {}),
                ("POST", "/models/a/b/verify", {}),
                ("POST", "/gc", {}),
                ("DELETE", "/models/a/b", None),
            ):
                answer = await registry.http.request(method, path, json=body, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await registry.http.get("/models")).status_code == 200
        right = {b"Authorization": b"bearer s3cret-\xc3\xbc"}
        answer = await registry.http.post("/models/a/b/import", json={"source": "s3://x/y"}, headers=right)
        assert answer.status_code == 202
