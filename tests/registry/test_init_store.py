"""The one-shot job makes the bucket and an account that can use it and nothing else, on both servers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from minio import Minio
from minio.credentials import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.minioadmin import MinioAdmin

from msp_registry.accounts.bucket_policy import bucket_policy
from msp_registry.init_store import NoAnswer, Refused, make_bucket_and_account
from msp_registry.settings import InitStoreSettings
from msp_registry.stores.s3_endpoint import http_pool, parse_endpoint
from msp_registry.stores.s3_request import S3Account, signed_request
from msp_registry.stores.s3_store import S3Store
from msp_registry.stores.store import StoreUnavailable, read_small
from support.registry_minio import MinioServer
from support.registry_stores import keys, s3
from support.registry_versitygw import VersitygwServer, run_versitygw
from support.servers import free_port

SVC_USER, SVC_PASSWORD = "registry", "registry-secret"
MIB = 1 << 20

Server = MinioServer | VersitygwServer


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.minio) for kind in ("minio", "versitygw")],
)
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def environ(server: Server, **changes: str) -> dict[str, str]:
    return {
        "MINIO_ENDPOINT": f"http://{server.endpoint}",
        "MINIO_KIND": "minio" if isinstance(server, MinioServer) else "versitygw",
        "MINIO_ROOT_USER": server.root_user,
        "MINIO_ROOT_PASSWORD": server.root_password,
        "MINIO_SVC_USER": SVC_USER,
        "MINIO_SVC_PASSWORD": SVC_PASSWORD,
        **changes,
    }


def init(server: Server, **changes: str) -> None:
    make_bucket_and_account(InitStoreSettings.load(environ(server, **changes)))


def service(server: Server, bucket: str = "models", password: str = SVC_PASSWORD) -> S3Store:
    return s3(server, bucket, account=(SVC_USER, password))


def client(server: Server, user: str, password: str) -> Minio:
    return Minio(server.endpoint, access_key=user, secret_key=password, secure=False, region="us-east-1")


def as_process(env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "msp_registry.init_store"],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_account_can_do_all_that_the_store_needs(server: Server) -> None:
    init(server)
    store = service(server)
    await store.prepare()
    await store.check()
    await store.put("a/small", b"hello")
    assert await read_small(store, "a/small", 10) == b"hello"
    size = 6 * MIB
    upload_id = await store.begin_upload("a/large", size_bytes=size, part_bytes=5 * MIB)
    for number, length in [(1, 5 * MIB), (2, MIB)]:
        await store.put_part("a/large", upload_id, number, bytes(length))
    assert [u.upload_id async for u in store.uploads("a/")] == [upload_id]
    await store.complete_upload("a/large", upload_id, await store.parts("a/large", upload_id))
    aborted = await store.begin_upload("a/other", size_bytes=size, part_bytes=5 * MIB)
    await store.abort_upload("a/other", aborted)
    assert await keys(store) == ["a/large", "a/small"]
    await store.delete("a/large")
    assert await keys(store) == ["a/small"]
    free = await store.free_bytes()
    assert (free is not None) == isinstance(server, MinioServer)


async def test_the_account_can_do_nothing_elsewhere(server: Server) -> None:
    init(server)
    init(server, MINIO_BUCKET="others", MINIO_SVC_USER="somebody-else")
    theirs = s3(server, "others")
    await theirs.put("a", b"secret")
    upload_id = await theirs.begin_upload("b", size_bytes=6 * MIB, part_bytes=5 * MIB)
    ours = service(server, "others")
    for call in (
        ours.put("a", b"x"),
        ours.delete("a"),
        read_small(ours, "a", 10),
        keys(ours),
        ours.begin_upload("b", size_bytes=6 * MIB, part_bytes=5 * MIB),
        ours.put_part("b", upload_id, 2, b"x"),
        ours.abort_upload("b", upload_id),
        service(server, "new-bucket").prepare(),
    ):
        with pytest.raises(StoreUnavailable, match=r"AccessDenied.*init_store"):
            await call
    assert await read_small(theirs, "a", 10) == b"secret"


def test_the_account_cannot_change_its_own_bucket_or_see_others(server: Server) -> None:
    init(server)
    init(server, MINIO_BUCKET="others", MINIO_SVC_USER="somebody-else")
    account = client(server, SVC_USER, SVC_PASSWORD)
    changes: list[Callable[[], object]] = [
        lambda: account.remove_bucket("models"),
        lambda: account.set_bucket_policy("models", json.dumps(bucket_policy("models", "somebody-else"))),
        lambda: account.delete_bucket_policy("models"),
        lambda: account.get_bucket_policy("models"),
    ]
    for change in changes:
        with pytest.raises(S3Error, match="AccessDenied"):
            change()
    assert "others" not in {bucket.name for bucket in account.list_buckets()}


@pytest.mark.minio
def test_the_account_cannot_administer_minio(minio: MinioServer) -> None:
    init(minio)
    account = StaticProvider(SVC_USER, SVC_PASSWORD)
    admin = MinioAdmin(endpoint=minio.endpoint, credentials=account, secure=False, http_client=http_pool())
    for call in (
        admin.user_list,
        admin.info,
        admin.policy_list,
        lambda: admin.user_add("another", "another-secret"),
        lambda: admin.policy_add("msp-models", policy=bucket_policy("models", SVC_USER)),
        lambda: admin.attach_policy(["consoleAdmin"], user=SVC_USER),
    ):
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            call()


@pytest.mark.minio
def test_the_account_cannot_administer_versitygw(versitygw: VersitygwServer) -> None:
    init(versitygw)
    endpoint = parse_endpoint(versitygw.endpoint)
    for path, query in [
        ("/list-users", {}),
        ("/list-buckets", {}),
        ("/update-user", {"access": SVC_USER}),
        ("/change-bucket-owner", {"bucket": "models", "owner": SVC_USER}),
    ]:
        account = S3Account(SVC_USER, SVC_PASSWORD, "us-east-1")
        status, answer = signed_request(http_pool(), endpoint, account, "PATCH", path, query=query)
        assert (status, b"XAdminAccessDenied" in answer) == (403, True), answer


async def test_repeating_it_changes_nothing_but_a_new_secret(server: Server) -> None:
    init(server)
    await service(server).put("kept", b"kept")
    init(server)
    init(server, MINIO_SVC_PASSWORD="a-new-secret")
    assert await read_small(service(server, password="a-new-secret"), "kept", 10) == b"kept"
    with pytest.raises(StoreUnavailable, match="SignatureDoesNotMatch"):
        await read_small(service(server), "kept", 10)
    init(server)
    assert await read_small(service(server), "kept", 10) == b"kept"


@pytest.mark.minio
async def test_a_policy_that_others_put_on_a_versitygw_bucket_stays(versitygw: VersitygwServer) -> None:
    init(versitygw)
    init(versitygw, MINIO_BUCKET="others", MINIO_SVC_USER="somebody-else")
    root = client(versitygw, versitygw.root_user, versitygw.root_password)
    reading = {
        "Sid": "workers",
        "Effect": "Allow",
        "Principal": {"AWS": ["somebody-else"]},
        "Action": ["s3:GetObject"],
        "Resource": ["arn:aws:s3:::models/*"],
    }
    policy = json.loads(root.get_bucket_policy("models"))
    root.set_bucket_policy("models", json.dumps({**policy, "Statement": [*policy["Statement"], reading]}))
    init(versitygw)
    statements = json.loads(root.get_bucket_policy("models"))["Statement"]
    assert [s["Sid"] for s in statements] == ["workers", "msp-registry-bucket", "msp-registry-objects"]
    await service(versitygw).put("shared", b"x")
    theirs = s3(versitygw, account=("somebody-else", SVC_PASSWORD))
    assert await read_small(theirs, "shared", 10) == b"x"


def test_as_a_program_it_says_what_it_did_and_ends_with_0(server: Server) -> None:
    ended = as_process(environ(server, MINIO_BUCKET="by-program"))
    assert ended.returncode == 0, ended.stderr
    assert "bucket by-program made" in ended.stderr + ended.stdout
    assert SVC_PASSWORD not in ended.stderr + ended.stdout


def test_wrong_root_credentials_are_refused(server: Server) -> None:
    with pytest.raises(Refused, match="refused"):
        init(server, MINIO_ROOT_PASSWORD="wrong-secret")
    ended = as_process(environ(server, MINIO_ROOT_PASSWORD="wrong-secret"))
    assert ended.returncode == 4
    assert "MINIO_ROOT_PASSWORD" in ended.stderr + ended.stdout


def test_a_server_of_the_other_kind_is_refused_with_the_setting_to_look_at(server: Server) -> None:
    other = "versitygw" if isinstance(server, MinioServer) else "minio"
    ended = as_process(environ(server, MINIO_KIND=other))
    assert ended.returncode == 4
    assert f"is it a {other} (MINIO_KIND)?" in ended.stderr + ended.stdout


@pytest.mark.minio
def test_a_versitygw_without_accounts_is_refused_with_what_to_start_it_with(tmp_path: Path) -> None:
    with run_versitygw(tmp_path, accounts=False) as single, pytest.raises(Refused, match="--iam-dir"):
        init(single)


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
