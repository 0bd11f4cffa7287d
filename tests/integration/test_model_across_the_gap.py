"""A model's whole way: hub, registry over each kind of store, then stock client and worker."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from msp_common.contracts.jobs import Job, JobState
from msp_model_service.weights.cache_room import CacheRoom
from msp_model_service.weights.checking import Checker
from msp_model_service.weights.model_source import RegistrySource
from msp_model_service.weights.weights import CachedWeights
from msp_registry.app import create_app
from msp_registry.init_store import make_bucket_and_account
from msp_registry.settings import InitStoreSettings, RegistrySettings
from support.fake_hub import COMMIT, FakeHub, FakeRepo
from support.registry_files import safetensors
from support.registry_minio import run_minio
from support.registry_versitygw import run_versitygw
from support.servers import run_server

FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "sub/vocab.txt": b"a\nb\n",
    # Large enough for an upload in parts, and for several ranges of the worker.
    "model.safetensors": safetensors(10_000_000),
}


@pytest.fixture(params=["folder", "minio", "minio-presigned", "versitygw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Settings of a registry whose store was made ready by the init job: it has the limited account alone."""
    if request.param == "folder":
        yield {"REGISTRY_STORE": f"file://{tmp_path}/store"}
        return
    kind, _, presigned = request.param.partition("-")
    with run_minio(tmp_path / "s3") if kind == "minio" else run_versitygw(tmp_path / "s3") as server:
        common = {
            "MINIO_ENDPOINT": f"http://{server.endpoint}",
            "MINIO_SVC_USER": "limited-account",
            "MINIO_SVC_PASSWORD": "limited-account-secret",
        }
        root = {
            "MINIO_KIND": kind,
            "MINIO_ROOT_USER": server.root_user,
            "MINIO_ROOT_PASSWORD": server.root_password,
        }
        make_bucket_and_account(InitStoreSettings.load({**common, **root}))
        yield {
            **common,
            "REGISTRY_STORE": "s3",
            "REGISTRY_S3_PREFIX": "some/where",
            "REGISTRY_PRESIGN": "on" if presigned else "off",
        }


@pytest.mark.minio
def test_a_mirrored_model_reaches_a_stock_client_and_a_worker_when_the_hub_is_gone(
    store: Mapping[str, str], tmp_path: Path
) -> None:
    hub = FakeHub(repos={"org/tiny": FakeRepo(FILES)})
    with run_server(hub.app) as hub_url:
        online = RegistrySettings.load({**store, "HF_ENDPOINT": hub_url, "REGISTRY_SCRUB_HOURS": "off"})
        with run_server(create_app(online)) as url:
            assert asked(url, "POST", "/models/org/tiny/download").state is JobState.SUCCEEDED

    offline = RegistrySettings.load({**store, "REGISTRY_MODE": "offline", "REGISTRY_SCRUB_HOURS": "off"})
    with run_server(create_app(offline)) as url:
        assert httpx.get(f"{url}/health").json()["status"] == "ok"
        assert [m["id"] for m in httpx.get(f"{url}/v1/models").json()["data"]] == ["org/tiny"]

        assert content(downloaded(url, tmp_path / "hf")) == FILES

        source = RegistrySource(url)
        weights = CachedWeights(source, CacheRoom(tmp_path / "cache", None), Checker("full"))
        snapshot = weights.fetch("org/tiny", "main", lambda *news: None, threading.Event())
        snapshot.release()
        source.close()
        assert snapshot.commit == COMMIT
        assert content(snapshot.folder) == FILES

        assert asked(url, "POST", "/models/org-tiny/verify").state is JobState.SUCCEEDED
        deleted = httpx.delete(f"{url}/models/org/tiny").json()
        assert deleted["freed_bytes"] >= sum(map(len, FILES.values()))
        assert httpx.get(f"{url}/models").json()["models"] == []


def asked(url: str, method: str, path: str) -> Job:
    """The job that a request began, once it has ended."""
    with httpx.Client(base_url=url, timeout=60) as http:
        for _ in range(100):
            answer = http.request(method, path)
            if answer.status_code != 503:
                break
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        http.get(f"/jobs/{job['id']}/events")
        return Job.model_validate(http.get(f"/jobs/{job['id']}").json())


def downloaded(url: str, folder: Path) -> Path:
    """What the stock client makes of it; a process of its own, since it reads its settings once."""
    code = "import sys, huggingface_hub as hub; hub.snapshot_download('org/tiny', local_dir=sys.argv[1])"
    told = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, env={**os.environ, **told, "HF_HOME": f"{folder}-home"}, check=True, timeout=60)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Path → bytes of all files that are not somebody's own notes."""
    found = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                place = Path(root, name)
                found[place.relative_to(folder).as_posix()] = place.read_bytes()
    return found
