"""All four programs as real processes, and what happens to a platform in a month, in a few seconds."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from msp_common.api_keys import new_key
from msp_common.contracts.jobs import Job, JobState
from support.audio_files import encode, tone
from support.chaos_cluster import PATIENCE_S, Program
from support.platform_processes import REPOSITORY, eventually, free_ports
from support.sample_prompts import endless

SAMPLES = REPOSITORY / "samples"
CHAT, BRITTLE, EMBEDDING, TRANSCRIPTION = "samples/chat", "fake/chat", "fake/embedding", "fake/transcription"
"""BRITTLE has two replicas that are there to be killed."""
FOLDERS = {CHAT: "chat", BRITTLE: "chat", EMBEDDING: "embedding", TRANSCRIPTION: "whisper"}
LIMITS: dict[str, dict[str, int]] = {
    "free": {},
    "alone": {"concurrency": 1},
    "slow": {"requests_per_minute": 1},
}
"""What each key may do, by its name."""
ATTEMPTS = 20


@dataclass
class WatchedCluster:
    """Its programs, and traffic of all kinds."""

    registry: Program
    service_registry: Program
    gateway: Program
    workers: dict[str, Program]
    http: dict[str, httpx.Client] = field(default_factory=dict)
    """By name of a key; the empty name has none."""

    @property
    def programs(self) -> list[Program]:
        return [self.registry, self.service_registry, self.gateway, *self.workers.values()]

    def verdict(self, worker: str) -> str | None:
        """What the service registry makes of a worker."""
        snapshot = httpx.get(f"{self.service_registry.url}/workers", timeout=5, trust_env=False).json()
        return next((str(w["verdict"]) for w in snapshot["workers"] if w["id"] == worker), None)

    def chat(self, key: str, model: str = CHAT, **body: Any) -> httpx.Response:
        """One question."""
        asked = {"model": model, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
        return self.http[key].post("/v1/chat/completions", json={**asked, **body})

    def ordinary_traffic(self) -> None:
        """Every kind of request that is answered, and every kind of mistake that clients make."""
        for _ in range(3):
            for stream in (False, True):
                assert self.chat("free", max_tokens=12, stream=stream).status_code == 200
        assert self.chat("free", BRITTLE, stream=True).status_code == 200
        free = self.http["free"]
        asked = free.post("/v1/embeddings", json={"model": EMBEDDING, "input": ["a", "b"]})
        assert asked.status_code == 200, asked.text
        recording = {"file": ("a.wav", encode(tone(1.5)))}
        heard = free.post("/v1/audio/transcriptions", data={"model": TRANSCRIPTION}, files=recording)
        assert heard.status_code == 200, heard.text
        assert self.chat("free", messages="none").status_code == 400
        assert self.chat("free", "no/such").status_code == 404
        assert self.chat("").status_code == 401
        assert 429 in [self.chat("slow", max_tokens=1).status_code for _ in range(2)]

    def queueing(self) -> None:
        """A key that may ask one thing at a time: one request is answered, one waits, one is refused."""
        body = {"max_tokens": 2000, "stream": True, "logit_bias": endless("chat")}
        asked = {"model": CHAT, "messages": [{"role": "user", "content": "Count."}], **body}
        with self.http["alone"].stream("POST", "/v1/chat/completions", json=asked) as first:
            assert first.status_code == 200
            pieces = first.iter_bytes()
            next(pieces)
            waits = {**asked, "max_tokens": 1}
            with self.http["alone"].stream(
                "POST", "/v1/chat/completions", json=waits, headers={"x-msp-queue-events": "1"}
            ) as second:
                # The headers of a stream that is told of its place in the queue come at once.
                assert self.gateway.metric("msp_gateway_queue_waiting") == 1
                assert self.chat("alone", max_tokens=1).status_code == 429
                first.close()
                second.read()
                assert second.status_code == 200

    def troubles(self) -> None:
        """An idle replica dies, the other one in the middle of an answer, and then there is none."""
        one, other = self.workers["brittle-0"], self.workers["brittle-1"]
        one.end(signal.SIGKILL)
        for _ in range(ATTEMPTS):
            assert self.chat("free", BRITTLE).status_code == 200
            if self.gateway.metric("msp_gateway_retries_total"):
                break
        else:
            raise AssertionError("no request was sent to the dead replica")
        question = [{"role": "user", "content": "long " * 700}]
        asked = {"model": BRITTLE, "messages": question, "stream": True}
        with self.http["free"].stream("POST", "/v1/chat/completions", json=asked) as answer:
            try:
                for number, _ in enumerate(answer.iter_raw()):
                    if number == 0:
                        other.end(signal.SIGKILL)
            except httpx.RemoteProtocolError:
                pass  # it is cut off: an answer that broke must not look whole
        assert self.gateway.metric("msp_gateway_resumes_total") == 1
        assert self.chat("free", BRITTLE).status_code == 503


@contextmanager
def watched_cluster(folder: Path) -> Iterator[WatchedCluster]:
    """Start all with models in the store, wait until every worker is ready, and end all with the block."""
    ports = iter(free_ports(8))
    keys = {name: new_key() for name in LIMITS}
    entries = [
        {"id": key.id, "name": name, "sha256": key.sha256, "limits": LIMITS[name]}
        for name, key in keys.items()
    ]
    keys_file = folder / "keys.yaml"
    keys_file.write_text(yaml.safe_dump({"keys": entries}))

    def program(name: str, module: str, **environment: str) -> Program:
        return Program(name, module, next(ports), environment, folder / f"{name}.log")

    cluster = WatchedCluster(
        program("registry", "msp_registry"),
        program("service-registry", "msp_service_registry"),
        program("gateway", "msp_gateway"),
        {
            "chat": program("chat", "support.worker_with_gpu"),
            **{
                name: program(name, "msp_model_service")
                for name in ("brittle-0", "brittle-1", "embedding", "transcription")
            },
        },
    )
    shared = {
        "REGISTRY_URL": cluster.registry.url,
        "SERVICE_REGISTRY_URL": cluster.service_registry.url,
        "GATEWAY_URL": cluster.gateway.url,
    }
    _configure(cluster, folder, keys_file, shared)
    try:
        cluster.registry.start()
        eventually("the registry answers", cluster.registry.answers, PATIENCE_S)
        _bring_in(cluster.registry, FOLDERS, JobState.SUCCEEDED)
        # The scrub looks at what there is when it begins.
        cluster.registry.end(signal.SIGTERM)
        for each in cluster.programs:
            each.start()
        eventually("the registry answers", cluster.registry.answers, PATIENCE_S)
        _bring_in(cluster.registry, {"no/such": "make/no-such"}, JobState.FAILED)
        for name in cluster.workers:
            eventually(f"{name} is ready", partial(_ready, cluster, name), PATIENCE_S)
        eventually("the gateway is healthy", lambda: cluster.gateway.answers("/health"), PATIENCE_S)
        headers = {name: {"authorization": f"Bearer {key.secret}"} for name, key in keys.items()}
        for name, own in {"": dict[str, str](), **headers}.items():
            cluster.http[name] = httpx.Client(
                base_url=cluster.gateway.url, headers=own, timeout=PATIENCE_S, trust_env=False
            )
        yield cluster
    finally:
        for client in cluster.http.values():
            client.close()
        for each in cluster.programs:
            each.end()


def _configure(cluster: WatchedCluster, folder: Path, keys_file: Path, shared: dict[str, str]) -> None:
    own: dict[str, dict[str, str]] = {
        "registry": {
            "REGISTRY_STORE": f"file://{folder / 'store'}",
            "REGISTRY_MODE": "offline",
            "REGISTRY_IMPORT_ROOTS": str(SAMPLES),
            "REGISTRY_SCRUB_HOURS": "00:00-00:00",
            "REGISTRY_SCRUB_EVERY_DAYS": "0.0001",
        },
        "gateway": {
            "GATEWAY_AUTH": "on",
            "GATEWAY_KEYS_FILE": str(keys_file),
            "GATEWAY_QUEUE_MAX_PER_KEY": "1",
            "GATEWAY_RESUME_STREAMS": "true",
        },
    }
    for each in (cluster.registry, cluster.service_registry, cluster.gateway):
        prefix = each.name.upper().replace("-", "_")
        address = {f"{prefix}_HOST": "127.0.0.1", f"{prefix}_PORT": str(each.port)}
        each.environment = {**shared, **address, **own.get(each.name, {})}
    served = {
        "chat": (CHAT, "llm", "slot"),
        "brittle-0": (BRITTLE, "llm", "fake"),
        "brittle-1": (BRITTLE, "llm", "fake"),
        "embedding": (EMBEDDING, "embedding", "fake"),
        "transcription": (TRANSCRIPTION, "transcription", "fake"),
    }
    for name, (model, kind, engine) in served.items():
        worker = cluster.workers[name]
        worker.environment = {
            **shared,
            "PYTHONPATH": str(REPOSITORY / "tests"),
            "MODEL_NAME": model,
            "MODEL_TYPE": kind,
            "ENGINE": engine,
            "MODEL_CACHE_DIR": str(folder / "cache"),
            "WORKER_HOST": "127.0.0.1",
            "WORKER_ID": name,
            "WORKER_URL": worker.url,
            "WORKER_PORT": str(worker.port),
            "THREADS": "1",
        }


def _bring_in(registry: Program, folders: dict[str, str], end: JobState) -> None:
    """Import folders of the samples, by model; every job must end like this."""
    with httpx.Client(base_url=registry.url, timeout=PATIENCE_S, trust_env=False) as http:
        jobs = []
        for model, folder in folders.items():
            answer = http.post(f"/models/{model}/import", json={"source": str(SAMPLES / folder)})
            assert answer.status_code == 202, answer.text
            jobs.append(answer.json()["id"])

        def state(job_id: str) -> JobState:
            return Job.model_validate(http.get(f"/jobs/{job_id}").json()).state

        def ended() -> bool:
            return all(state(job_id).ended for job_id in jobs)

        eventually("the imports end", ended, PATIENCE_S)
        assert {state(job_id) for job_id in jobs} == {end}


def _ready(cluster: WatchedCluster, name: str) -> bool:
    try:
        return cluster.verdict(name) == "ready"
    except httpx.HTTPError:
        return False
