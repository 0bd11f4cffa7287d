"""The registry as a process of its own that can be killed, and what it is told to mirror."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from msp_common.contracts.jobs import Job
from msp_common.contracts.models import ModelInfo
from support.platform_processes import eventually
from support.servers import free_port

START_WITHIN_S = 60
END_WITHIN_S = 240


def sharded_model(seed: int, *, shards: int, shard_bytes: int) -> dict[str, bytes]:
    """Files of a model with random weights, whole enough for every check of structure."""
    names = [f"model-{n:05}-of-{shards:05}.safetensors" for n in range(1, shards + 1)]
    files = {}
    for n, name in enumerate(names):
        header = {f"t{n}": {"dtype": "U8", "shape": [shard_bytes], "data_offsets": [0, shard_bytes]}}
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        weights = random.Random(seed * 1000 + n).randbytes(shard_bytes)
        files[name] = len(head).to_bytes(8, "little") + head + weights
    index = {
        "metadata": {"total_size": shards * shard_bytes},
        "weight_map": {f"t{n}": name for n, name in enumerate(names)},
    }
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["config.json"] = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
    return files


class RegistryProcess:
    """`python -m msp_registry`, again and again on the same port with the same settings."""

    def __init__(self, folder: Path, **environ: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "registry.log"
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "REGISTRY_HOST": "127.0.0.1",
            "REGISTRY_PORT": str(port),
            "REGISTRY_SCRUB_HOURS": "off",
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def start(self) -> None:
        """Return when it answers and knows its jobs."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "msp_registry"]
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)
        eventually("the registry knows its jobs", self._knows_its_jobs, START_WITHIN_S)

    def kill(self) -> None:
        """End it without warning."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def close(self) -> None:
        """Leave nothing running."""
        self._end(signal.SIGKILL)
        self._http.close()

    def download(self, name: str) -> Job:
        """Ask for a model."""
        answer = self._http.post(f"/models/{name}/download", json={})
        assert answer.status_code == 202, answer.text
        return Job.model_validate(answer.json())

    def job(self, job_id: str) -> Job:
        """One job."""
        answer = self._http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return Job.model_validate(answer.json())

    def ended(self, job_id: str) -> Job:
        """The job once it has ended."""
        eventually(f"job {job_id} ends", lambda: self.job(job_id).state.ended, END_WITHIN_S)
        return self.job(job_id)

    def sha256_of_files(self, name: str) -> dict[str, str]:
        """Hash of every file of the model's default revision, as served."""
        answer = self._http.get(f"/models/{name}")
        assert answer.status_code == 200, answer.text
        manifest = ModelInfo.model_validate(answer.json()).manifest
        return {file.path: self._sha256(name, manifest.commit, file.path) for file in manifest.files}

    def _sha256(self, name: str, commit: str, path: str) -> str:
        digest = hashlib.sha256()
        with self._http.stream("GET", f"/files/{name.replace('/', '%2F')}/{commit}/{path}") as answer:
            assert answer.status_code == 200
            for chunk in answer.iter_bytes():
                digest.update(chunk)
        return digest.hexdigest()

    def _knows_its_jobs(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"the registry ended: {self.log.read_text()[-2000:]}")
        try:
            return self._http.get("/jobs").status_code == 200
        except httpx.TransportError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None
