"""The one-shot job makes the bucket and an account that can use it and nothing else."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from msp_common.contracts.jobs import JobState
from msp_registry.init_store import NoAnswer, Refused, make_bucket_and_account
from msp_registry.s3_endpoint import parse_endpoint
from msp_registry.s3_store import S3Store
from msp_registry.settings import InitStoreSettings
from msp_registry.store import StoreUnavailable, read_small, write_small
from support.registry_app import running, settings
from support.registry_files import tiny_model, write_folder
from support.registry_minio import MinioServer, run_minio
from support.servers import free_port

SVC_USER, SVC_PASSWORD = "registry", "registry-secret"


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with run_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


def environ(minio: MinioServer, **changes: str) -> dict[str, str]:
    return {
        "MINIO_ENDPOINT": f"http://{minio.endpoint}",
        "MINIO_ROOT_USER": minio.root_user,
        "MINIO_ROOT_PASSWORD": minio.root_password,
        "MINIO_SVC_USER": SVC_USER,
        "MINIO_SVC_PASSWORD": SVC_PASSWORD,
        **changes,
    }


def init(minio: MinioServer, **changes: str) -> None:
    make_bucket_and_account(InitStoreSettings.load(environ(minio, **changes)))


def service(minio: MinioServer, bucket: str = "models", password: str = SVC_PASSWORD) -> S3Store:
    return S3Store(
        parse_endpoint(minio.endpoint),
        access_key=SVC_USER,
        secret_key=password,
        bucket=bucket,
        region="us-east-1",
    )


def as_process(env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "msp_registry.init_store"],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.minio
async def test_the_account_can_do_all_in_its_bucket_and_nothing_elsewhere(minio: MinioServer) -> None:
    init(minio)
    init(minio, MINIO_BUCKET="others", MINIO_SVC_USER="somebody-else")
    store = service(minio)
    await store.prepare()
    await store.check()

    async def large() -> AsyncGenerator[bytes, None]:
        for _ in range(20):
            yield bytes(1 << 20)

    await store.put("a/large", large(), size_bytes=20 << 20)
    await write_small(store, "a/small", b"hello")
    assert await read_small(store, "a/small", 10) == b"hello"
    assert [o.key async for o in store.list("")] == ["a/large", "a/small"]
    await store.delete("a/large")
    elsewhere = service(minio, "others")
    with pytest.raises(StoreUnavailable, match=r"AccessDenied.*init_store"):
        await write_small(elsewhere, "a", b"x")
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        await read_small(elsewhere, "a", 10)
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        await service(minio, "new-bucket").prepare()


@pytest.mark.minio
async def test_repeating_it_changes_nothing_but_a_new_secret(minio: MinioServer) -> None:
    init(minio)
    await write_small(service(minio), "kept", b"kept")
    init(minio)
    init(minio, MINIO_SVC_PASSWORD="a-new-secret")
    assert await read_small(service(minio, password="a-new-secret"), "kept", 10) == b"kept"
    with pytest.raises(StoreUnavailable, match="SignatureDoesNotMatch"):
        await read_small(service(minio), "kept", 10)
    init(minio)
    assert await read_small(service(minio), "kept", 10) == b"kept"


@pytest.mark.minio
async def test_the_registry_works_over_it_with_the_service_account_alone(
    minio: MinioServer, tmp_path: Path
) -> None:
    init(minio)
    model = tiny_model(1000)
    folder = write_folder(tmp_path / "models" / "tiny", model)
    chosen = settings(
        tmp_path,
        REGISTRY_STORE="s3",
        REGISTRY_S3_PREFIX="of/the/registry",
        MINIO_ENDPOINT=minio.endpoint,
        MINIO_SVC_USER=SVC_USER,
        MINIO_SVC_PASSWORD=SVC_PASSWORD,
    )
    async with running(chosen) as registry:
        job = await registry.bring("org/tiny", folder)
        assert job.state is JobState.SUCCEEDED, job.error
        answer = await registry.http.get(
            f"/files/org/tiny/{job.commit}/model.safetensors", headers={"Range": "bytes=8-99"}
        )
        assert (answer.status_code, answer.content) == (206, model["model.safetensors"][8:100])
        assert (await registry.http.get("/health")).json()["status"] == "ok"
    async with running(chosen.model_copy(update={"presign": "on"})) as registry:
        told = (await registry.http.get("/models/org/tiny")).json()
        for url in told["urls"]:
            assert url["url"].startswith(f"http://{minio.endpoint}/models/of/the/registry/org/tiny/")
            assert url["expires_at"] > 0
        assert (await registry.http.get("/jobs")).json()["jobs"][0]["id"] == job.id
        assert (await registry.http.delete("/models/org/tiny")).status_code == 200
        assert (await registry.http.get("/models")).json() == {"models": []}


@pytest.mark.minio
def test_as_a_program_it_says_what_it_did_and_ends_with_0(minio: MinioServer) -> None:
    ended = as_process(environ(minio, MINIO_BUCKET="by-program"))
    assert ended.returncode == 0, ended.stderr
    assert "bucket by-program made" in ended.stderr + ended.stdout
    assert SVC_PASSWORD not in ended.stderr + ended.stdout


@pytest.mark.minio
def test_wrong_root_credentials_are_refused(minio: MinioServer) -> None:
    with pytest.raises(Refused, match="refused"):
        init(minio, MINIO_ROOT_PASSWORD="wrong-secret")
    ended = as_process(environ(minio, MINIO_ROOT_PASSWORD="wrong-secret"))
    assert ended.returncode == 4
    assert "MINIO_ROOT_PASSWORD" in ended.stderr + ended.stdout


def test_a_server_that_never_answers_is_given_up_at_the_deadline() -> None:
    nobody = MinioServer(f"127.0.0.1:{free_port()}")
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    with pytest.raises(NoAnswer, match="did not answer within 3 s"):
        make_bucket_and_account(
            InitStoreSettings.load(environ(nobody, MINIO_WAIT_S="3")), monotonic=lambda: now[0], sleep=sleep
        )
    assert slept == [1.0, 1.0, 1.0]
    assert as_process(environ(nobody, MINIO_WAIT_S="0.1")).returncode == 3


def test_missing_settings_are_named_and_end_with_2() -> None:
    ended = as_process({"MINIO_ROOT_USER": "root", "MINIO_SVC_USER": "root"})
    assert ended.returncode == 2
    assert "MINIO_ROOT_PASSWORD: required" in ended.stderr
