"""Models over HTTP: bringing them in, listing, describing, reading ranges, deleting."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from msp_common.contracts.jobs import JobState
from msp_common.contracts.models import ModelInfo, ModelList
from msp_registry.failures import NoSuchRepo
from msp_registry.hub_client import Resolved
from msp_registry.selection import RemoteFile
from support.fake_hub import COMMIT, FakeHub, FakeRepo
from support.registry_app import RunningRegistry, ToldUsage, running, settings
from support.registry_files import tiny_model, write_folder
from support.registry_memory_store import MemoryStore
from support.servers import run_server

MODEL = tiny_model(1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "models" / "tiny", MODEL)


@pytest.fixture
def usage() -> ToldUsage:
    return ToldUsage()


@pytest.fixture
async def registry(tmp_path: Path, usage: ToldUsage) -> AsyncGenerator[RunningRegistry, None]:
    async with running(settings(tmp_path), usage=usage) as registry:
        yield registry


def error_of(answer: httpx.Response) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


async def info(registry: RunningRegistry, name: str, **params: str) -> ModelInfo:
    answer = await registry.http.get(f"/models/{name}", params=params)
    assert answer.status_code == 200, answer.text
    return ModelInfo.model_validate_json(answer.content)


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "a%2fb", "bare", "download", "a/download", "models/import"])
async def test_ids_work_raw_and_encoded_through_their_whole_life(
    registry: RunningRegistry, folder: Path, name: str
) -> None:
    repo_id = name.replace("%2F", "/").replace("%2f", "/")
    job = await registry.bring(name, folder)
    assert (job.state, job.repo_id) == (JobState.SUCCEEDED, repo_id)
    assert (await info(registry, name)).id == repo_id
    listed = ModelList.model_validate_json((await registry.http.get("/models")).content)
    assert [m.id for m in listed.models] == [repo_id]
    for url in (await info(registry, name)).urls:
        assert (await registry.http.get(url.url)).content == MODEL[url.path]
    commit = job.commit
    assert (await registry.http.get(f"/files/{name}/{commit}/1_Pooling/config.json")).content == b"{}"
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
        "%20",
        "a//b",
        "a/" + "0" * 40,
        ".registry",
    ],
)
async def test_hostile_names_are_refused_by_every_route(folder: Path, name: str, tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(settings(tmp_path), store=store) as registry:
        answers = [
            await registry.http.get(f"/models/{name}"),
            await registry.http.delete(f"/models/{name}"),
            await registry.http.post(f"/models/{name}/download"),
            await registry.http.post(f"/models/{name}/import", json={"folder": str(folder)}),
        ]
    for answer in answers:
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "name"
    assert store.puts == store.deletes == []


async def test_an_import_describes_itself(registry: RunningRegistry, folder: Path) -> None:
    job = await registry.bring("org/tiny", folder, "v1")
    assert job.bytes_done == job.bytes_total == sum(map(len, MODEL.values()))
    assert (job.files_done, job.progress) == (len(MODEL), 1.0)
    for params in ({}, {"revision": "v1"}, {"revision": str(job.commit)}):
        found = await info(registry, "org/tiny", **params)
        assert (found.commit, found.refs) == (job.commit, {"v1": job.commit})
    assert (found.manifest.source, found.manifest.parameters) == ("folder", 1000)
    summary = (await registry.http.get("/models")).json()["models"][0]
    assert summary["total_bytes"] == found.manifest.total_bytes
    status, code, message = error_of(await registry.http.get("/models/org/tiny?revision=v2"))
    assert (status, code) == (404, "model_not_found")
    assert "it has:" in message
    assert "v1" in message


async def test_an_unknown_model_says_how_to_bring_it(registry: RunningRegistry) -> None:
    assert error_of(await registry.http.get("/models/org/none")) == (
        404,
        "model_not_found",
        "the registry holds no model 'org/none'. Bring it with POST /models/org/none/import.",
    )


@pytest.mark.parametrize("revision", ["../x", "a//b", "/main", "x" * 300, "a b", "-x"])
async def test_impossible_revisions_are_refused(
    registry: RunningRegistry, folder: Path, revision: str
) -> None:
    asked = await registry.http.get("/models/a/b", params={"revision": revision})
    imported = await registry.http.post(
        "/models/a/b/import", json={"folder": str(folder), "revision": revision}
    )
    for answer in (asked, imported):
        assert error_of(answer)[:2] == (400, "invalid_revision")


async def test_only_folders_below_the_roots_are_imported(
    registry: RunningRegistry, folder: Path, tmp_path: Path
) -> None:
    outside = write_folder(tmp_path / "models-too", MODEL)
    (tmp_path / "models" / "link").symlink_to(outside)
    for asked in (outside, tmp_path, folder / ".." / ".." / "models-too", tmp_path / "models" / "link"):
        answer = await registry.http.post("/models/a/b/import", json={"folder": str(asked)})
        assert error_of(answer)[:2] == (403, "folder_not_allowed")
        assert "REGISTRY_IMPORT_ROOTS=" in answer.text
    for odd in ("relative", "", "/a\0b"):
        answer = await registry.http.post("/models/a/b/import", json={"folder": odd})
        assert error_of(answer)[:2] == (403, "folder_not_allowed")


async def test_importing_is_off_until_a_root_is_set(tmp_path: Path, folder: Path) -> None:
    async with running(settings(tmp_path, REGISTRY_IMPORT_ROOTS="")) as registry:
        answer = await registry.http.post("/models/a/b/import", json={"folder": str(folder)})
    assert error_of(answer)[:2] == (403, "folder_not_allowed")
    assert "set REGISTRY_IMPORT_ROOTS" in answer.text


async def test_an_offline_registry_points_to_the_import(registry: RunningRegistry) -> None:
    status, code, message = error_of(await registry.http.post("/models/org/tiny/download", json={}))
    assert (status, code) == (409, "registry_offline")
    assert "POST /models/org/tiny/import" in message


async def test_a_download_comes_from_the_hub_with_or_without_a_body(tmp_path: Path) -> None:
    hub = FakeHub({"org/tiny": FakeRepo(MODEL)})
    with run_server(hub.app) as endpoint:
        online = settings(tmp_path, REGISTRY_MODE="online", HF_ENDPOINT=endpoint)
        async with running(online) as registry:
            job = await registry.ended(await registry.http.post("/models/org%2Ftiny/download"))
            assert (job.state, job.commit) == (JobState.SUCCEEDED, COMMIT)
            failed = await registry.ended(
                await registry.http.post("/models/org/tiny/download", json={"revision": "v9"})
            )
            assert failed.error is not None
            assert (failed.state, failed.error.code) == (JobState.FAILED, "no_such_revision")
            told = (await registry.http.get(f"/jobs/{failed.id}")).json()
            assert told["error"] == failed.error.model_dump()
            assert [j["id"] for j in (await registry.http.get("/jobs")).json()["jobs"]] == [failed.id, job.id]
            page = (await registry.http.get("/metrics")).text
    assert 'msp_registry_jobs_ended_total{outcome="no_such_revision"} 1.0' in page


async def test_an_unknown_job_is_404(registry: RunningRegistry) -> None:
    assert error_of(await registry.http.get("/jobs/nothing"))[:2] == (404, "job_not_found")


WEIGHTS = MODEL["model.safetensors"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=100-", 100, len(WEIGHTS) - 1),
        ("bytes=-5", len(WEIGHTS) - 5, len(WEIGHTS) - 1),
        (f"bytes=10-{len(WEIGHTS) * 9}", 10, len(WEIGHTS) - 1),
        (f"bytes=-{len(WEIGHTS) * 9}", 0, len(WEIGHTS) - 1),
    ],
)
async def test_a_range_gives_206_and_its_bytes(
    registry: RunningRegistry, folder: Path, asked: str, first: int, last: int
) -> None:
    job = await registry.bring("org/tiny", folder)
    url = f"/files/org/tiny/{job.commit}/model.safetensors"
    answer = await registry.http.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, WEIGHTS[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(WEIGHTS)}"
    assert answer.headers["content-length"] == str(last - first + 1)


async def test_a_file_has_its_hash_as_etag_and_all_its_bytes(registry: RunningRegistry, folder: Path) -> None:
    job = await registry.bring("org/tiny", folder)
    url = f"/files/org/tiny/{job.commit}/model.safetensors"
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    for method in ("GET", "HEAD"):
        answer = await registry.http.request(method, url)
        assert answer.status_code == 200
        assert answer.headers["etag"] == f'"{sha256}"'
        assert answer.headers["content-length"] == str(len(WEIGHTS))
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.content == (WEIGHTS if method == "GET" else b"")
    stale = await registry.http.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, WEIGHTS)


async def test_a_range_behind_the_end_is_416(registry: RunningRegistry, folder: Path) -> None:
    job = await registry.bring("org/tiny", folder)
    url = f"/files/org/tiny/{job.commit}/config.json"
    for asked in ("bytes=22-", "bytes=9999999999999999999-", "bytes=-0"):
        answer = await registry.http.get(url, headers={"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(MODEL['config.json'])}"
        assert answer.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{commit}/nothing", 404),
        ("{commit}/.registry/manifest.json", 404),
        ("{commit}/..%2F..%2Fsecret", 404),
        ("{commit}/", 404),
        ("{other}/config.json", 404),
        ("main/config.json", 400),
    ],
)
async def test_only_what_the_manifest_lists_is_served(
    registry: RunningRegistry, folder: Path, path: str, status: int
) -> None:
    job = await registry.bring("org/tiny", folder)
    url = f"/files/org%2Ftiny/{path.format(commit=job.commit, other='0' * 40)}"
    assert (await registry.http.get(url)).status_code == status


async def test_a_file_that_the_store_lost_is_an_error_and_no_empty_answer(
    tmp_path: Path, folder: Path
) -> None:
    store = MemoryStore()
    async with running(settings(tmp_path), store=store) as registry:
        job = await registry.bring("org/tiny", folder)
        key = f"org/tiny/{job.commit}/config.json"
        del store.objects[key]
        status, _, message = error_of(await registry.http.get(f"/files/{key}"))
        assert (status, key in message) == (500, True)
        store.down = True
        status, code, _ = error_of(await registry.http.get("/models"))
        assert (status, code) == (503, "store_unavailable")


async def test_deleting_takes_one_model_and_leaves_its_neighbours(
    registry: RunningRegistry, folder: Path, tmp_path: Path
) -> None:
    for name in ("org", "org/tiny", "org/tiny2"):
        await registry.bring(name, folder)
    deleted = (await registry.http.delete("/models/org")).json()
    assert deleted["objects"] == len(MODEL) + 2
    assert deleted["freed_bytes"] > sum(map(len, MODEL.values()))
    await registry.http.delete("/models/org/tiny")
    names = [m["id"] for m in (await registry.http.get("/models")).json()["models"]]
    assert names == ["org/tiny2"]
    assert [p.name for p in (tmp_path / "store" / "org").iterdir()] == ["tiny2"]
    assert (await registry.http.delete("/models/org/tiny")).status_code == 404


async def test_refs_and_manifests_go_before_the_files(tmp_path: Path, folder: Path) -> None:
    store = MemoryStore()
    async with running(settings(tmp_path), store=store) as registry:
        await registry.bring("org/tiny", folder)
        (folder / "config.json").write_bytes(b"{}")
        await registry.bring("org/tiny", folder, "v2")
        await registry.http.delete("/models/org/tiny")
    deleted = [k.removeprefix("org/tiny/") for k in store.deletes]
    assert deleted[:2] == [".registry/refs/main", ".registry/refs/v2"]
    assert [k[40:] for k in deleted[2:4]] == ["/.registry/manifest.json"] * 2
    assert len(deleted) == 4 + 2 * len(MODEL)
    assert [k for k in store.objects if k.startswith("org/")] == []


async def test_a_model_in_use_is_deleted_only_by_force(
    registry: RunningRegistry, usage: ToldUsage, folder: Path
) -> None:
    await registry.bring("org/tiny", folder)
    usage.workers = ["llm-1", "llm-2"]
    status, code, message = error_of(await registry.http.delete("/models/org/tiny"))
    assert (status, code) == (409, "model_in_use")
    assert "llm-1, llm-2" in message
    usage.workers = None
    status, code, message = error_of(await registry.http.delete("/models/org/tiny"))
    assert (status, code) == (409, "usage_unknown")
    assert "?force=true" in message
    assert usage.asked == ["org/tiny", "org/tiny"]
    assert (await registry.http.delete("/models/org/tiny?force=true")).status_code == 200


async def test_changing_routes_need_the_admin_token_when_it_is_set(tmp_path: Path, folder: Path) -> None:
    async with running(settings(tmp_path, REGISTRY_ADMIN_TOKEN="s3cret-ü")) as registry:
        body = {"folder": str(folder)}
        for token in (None, "Bearer wrong", "Basic s3cret-ü", "s3cret-ü", "Bearer "):
            headers = {b"Authorization": token.encode()} if token else {}
            for answer in (
                await registry.http.post("/models/a/b/import", json=body, headers=headers),
                await registry.http.post("/models/a/b/download", headers=headers),
                await registry.http.delete("/models/a/b", headers=headers),
            ):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await registry.http.get("/models")).status_code == 200
        right = {b"Authorization": b"bearer s3cret-\xc3\xbc"}
        assert (await registry.http.post("/models/a/b/import", json=body, headers=right)).status_code == 202


async def test_health_tells_mode_and_store(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(settings(tmp_path), store=store) as registry:
        up = await registry.http.get("/health")
        assert (up.status_code, up.json()["status"]) == (200, "ok")
        assert "offline" in up.json()["parts"]["mode"]["reason"]
        store.down = True
        down = await registry.http.get("/health")
        assert (down.status_code, down.json()["status"]) == (503, "down")
        assert down.json()["reason"] == "the store is down"
        assert (await registry.http.get("/livez")).status_code == 200


async def test_a_long_body_is_refused(registry: RunningRegistry) -> None:
    answer = await registry.http.post(
        "/models/a/b/import", content=b'{"folder": "' + b"x" * (2 << 20) + b'"}'
    )
    assert answer.status_code == 413


async def test_every_route_is_described(registry: RunningRegistry) -> None:
    paths = (await registry.http.get("/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/livez",
        "/metrics",
        "/health",
        "/models",
        "/models/{name}",
        "/models/{name}/download",
        "/models/{name}/import",
        "/files/{name}/{commit}/{path}",
        "/jobs",
        "/jobs/{job_id}",
    }
    assert (await registry.http.get("/docs")).status_code == 200


async def test_the_same_download_twice_is_one_job_and_holds_off_a_deletion(tmp_path: Path) -> None:
    class WaitingHub:
        """A hub that is asked, and does not answer until it is told to."""

        endpoint = "http://hub"

        def __init__(self) -> None:
            self.asked = asyncio.Event()
            self.answer = asyncio.Event()

        async def resolve(self, repo_id: str, revision: str) -> Resolved:
            self.asked.set()
            await self.answer.wait()
            raise NoSuchRepo(f"there is no model {repo_id}")

        async def tree(self, repo_id: str, commit: str) -> list[RemoteFile]:
            return []

        async def read(self, repo_id: str, commit: str, file: RemoteFile) -> AsyncGenerator[bytes, None]:
            yield b""

    hub = WaitingHub()
    async with running(settings(tmp_path, REGISTRY_MODE="online"), hub=hub) as registry:
        first = await registry.http.post("/models/a/b/download", json={"revision": "main"})
        await hub.asked.wait()
        again = await registry.http.post("/models/a%2Fb/download")
        assert again.status_code == 202
        assert (again.json()["id"], again.json()["state"]) == (first.json()["id"], "RESOLVING")
        other = await registry.http.post("/models/a/b/download", json={"allow_pickle": True})
        assert other.json()["id"] != first.json()["id"]
        assert error_of(await registry.http.delete("/models/a/b"))[:2] == (409, "model_busy")
        hub.answer.set()
        job = await registry.ended(first)
        assert job.error is not None
        assert job.error.code == "no_such_repo"
        await registry.ended(other)
