"""Standard mode: a worker whose model nobody has brought gets it, by way of the registry, from the hub."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from msp_registry.app import create_app
from msp_registry.settings import RegistrySettings
from support.fake_hub import COMMIT, FakeHub, FakeRepo
from support.platform_processes import REPOSITORY
from support.servers import free_port, run_server
from support.worker_registries import FakeServiceRegistry

SAMPLE = REPOSITORY / "samples/embedding"


def test_a_worker_has_its_missing_model_downloaded_and_serves_it(tmp_path: Path) -> None:
    files = {p.relative_to(SAMPLE).as_posix(): p.read_bytes() for p in SAMPLE.rglob("*") if p.is_file()}
    hub, services, port = (
        FakeHub(repos={"org/embedding": FakeRepo(files)}),
        FakeServiceRegistry(),
        free_port(),
    )
    with run_server(hub.app) as hub_url, run_server(services.app) as service_registry_url:
        settings = RegistrySettings.load(
            {
                "REGISTRY_STORE": f"file://{tmp_path}/store",
                "REGISTRY_SCRUB_HOURS": "off",
                "REGISTRY_ADMIN_TOKEN": "the-operators",
                "CLUSTER_TOKEN": "the-clusters",
                "HF_ENDPOINT": hub_url,
            }
        )
        with run_server(create_app(settings)) as registry_url:
            told = {
                "MODEL_NAME": "org/embedding",
                "MODEL_TYPE": "embedding",
                "AUTO_DOWNLOAD": "true",
                "CLUSTER_TOKEN": "the-clusters",
                "REGISTRY_URL": registry_url,
                "SERVICE_REGISTRY_URL": service_registry_url,
                "MODEL_CACHE_DIR": str(tmp_path / "cache"),
                "WORKER_HOST": "127.0.0.1",
                "WORKER_PORT": str(port),
                "DEVICE": "cpu",
            }
            inherited = {k: os.environ[k] for k in ("PATH", "HOME", "OMP_NUM_THREADS") if k in os.environ}
            command = [sys.executable, "-m", "msp_model_service"]
            with (tmp_path / "log").open("wb") as log:
                worker = subprocess.Popen(command, env={**inherited, **told}, stderr=log)
            try:
                services.wait_for("ready", timeout_s=120)
                question = {"model": "org/embedding", "input": "hello"}
                answer = httpx.post(f"http://127.0.0.1:{port}/v1/embeddings", json=question, timeout=60)
            finally:
                worker.terminate()
                worker.wait(30)
            jobs = httpx.get(f"{registry_url}/jobs").json()["jobs"]

            # The cluster's token opens nothing but the download.
            as_worker = {"Authorization": "Bearer the-clusters"}
            deleted = httpx.delete(f"{registry_url}/models/org/embedding", headers=as_worker)

    assert len(answer.json()["data"][0]["embedding"]) > 0
    assert [(job["state"], job["commit"]) for job in jobs] == [("SUCCEEDED", COMMIT)]
    assert "fetching" in services.states()
    assert deleted.status_code == 401
    log_text = (tmp_path / "log").read_text()
    assert "the-clusters" not in log_text
