"""Real stores of every kind for tests: a folder, MinIO and versitygw."""

import uuid
from pathlib import Path

import pytest

from msp_registry.stores.folder_store import FolderStore
from msp_registry.stores.s3_endpoint import parse_endpoint
from msp_registry.stores.s3_store import S3Store
from msp_registry.stores.store import ObjectStore
from support.registry_minio import MinioServer
from support.registry_versitygw import VersitygwServer

S3_KINDS = [
    pytest.param("minio", marks=pytest.mark.minio),
    pytest.param("minio-prefix", marks=pytest.mark.minio),
    pytest.param("versitygw", marks=pytest.mark.minio),
]
KINDS = ["folder", *S3_KINDS]


def s3(
    server: MinioServer | VersitygwServer,
    bucket: str = "models",
    prefix: str = "",
    account: tuple[str, str] | None = None,
) -> S3Store:
    """A store in a bucket of the server, by the root account if no other is given."""
    access_key, secret_key = account or (server.root_user, server.root_password)
    return S3Store(
        parse_endpoint(server.endpoint),
        access_key=access_key,
        secret_key=secret_key,
        bucket=bucket,
        region="us-east-1",
        prefix=prefix,
    )


def new_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An unprepared store; the servers are the fixtures `minio` and `versitygw` of the test's module."""
    if kind == "folder":
        return FolderStore(tmp_path / "store")
    server, _, prefix = kind.partition("-")
    return s3(request.getfixturevalue(server), f"b-{uuid.uuid4().hex}", "some/where" if prefix else "")


async def whole(store: ObjectStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    """What `get` gives."""
    return b"".join([chunk async for chunk in store.get(key, offset, length)])


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    """What `list` gives, the keys alone."""
    return [stat.key async for stat in store.list(prefix)]
