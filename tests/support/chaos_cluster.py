"""A small cluster of real processes with the fake engine: any may be killed, stopped or restarted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from support.platform_processes import eventually, free_ports
from support.servers import run_server
from support.worker_registries import FakeModelRegistry

PATIENCE_S = 240
"""Ends a test that hangs, and no other: where many share the processors, a worker takes a minute to start."""
ASK_S = 15
"""For one answer of a program; it is asked again."""
CHAT, EMBEDDING, TRANSCRIPTION = "chaos/chat", "chaos/embedding", "chaos/transcription"
MODELS = {CHAT: "llm", EMBEDDING: "embedding", TRANSCRIPTION: "transcription"}


@dataclass
class Program:
    """One program of the platform and its process."""

    name: str
    module: str
    port: int
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        inherited = {k: os.environ[k] for k in ("PATH", "HOME", "OMP_NUM_THREADS") if k in os.environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], env={**inherited, **self.environment}, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal it, and wait until it is gone."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_S)
            self.process = None

    def answers(self, path: str = "/livez") -> bool:
        try:
            return httpx.get(f"{self.url}{path}", timeout=ASK_S, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def resident_bytes(self) -> int:
        """Memory that the process holds now."""
        statm = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        """Files and sockets that the process has open now."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over all its labels."""
        lines = httpx.get(f"{self.url}/metrics", timeout=ASK_S, trust_env=False).text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )


@dataclass
class ChaosCluster:
    """Gateway, service registry, and two workers for each type."""

    gateway: Program
    service_registry: Program
    workers: dict[str, list[Program]] = field(default_factory=dict)
    """By model id."""

    @property
    def programs(self) -> list[Program]:
        return [self.service_registry, self.gateway, *(w for ws in self.workers.values() for w in ws)]

    @property
    def all_workers(self) -> list[Program]:
        return [worker for workers in self.workers.values() for worker in workers]

    def verdicts(self) -> dict[str, str]:
        """Worker id → the service registry's verdict."""
        snapshot = httpx.get(f"{self.service_registry.url}/workers", timeout=ASK_S, trust_env=False).json()
        return {worker["id"]: worker["verdict"] for worker in snapshot["workers"]}

    def wait_ready(self, patience_s: float = PATIENCE_S) -> None:
        """Until every worker is ready: in its own eyes, the service registry's and the gateway's."""
        workers = self.all_workers

        def all_ready() -> bool:
            # In this order: what was said of a process before may outlive it for a moment.
            if not all(worker.answers("/health") for worker in workers):
                return False
            try:
                verdicts = self.verdicts()
                gateway = httpx.get(f"{self.gateway.url}/health", timeout=ASK_S, trust_env=False).json()
            except httpx.HTTPError:
                return False
            told = gateway["parts"]["workers"]["reason"]
            everybody = f"{len(workers)} of {len(workers)} ready"
            return told == everybody and all(verdicts.get(w.name) == "ready" for w in workers)

        eventually("all workers are ready", all_ready, patience_s)


@contextmanager
def chaos_cluster(
    folder: Path,
    *,
    replicas: int = 2,
    models: Mapping[str, str] = MODELS,
    engine: str = "fake",
    files: Mapping[str, bytes] | None = None,
    patience_s: float = PATIENCE_S,
    **gateway_settings: str,
) -> Iterator[ChaosCluster]:
    """Start all, wait until all is ready, and end all with the block.

    `files` are those of each model, for an engine that reads them.
    """
    of_model = dict(files or {"config.json": b"{}"})
    ports = iter(free_ports(2 + replicas * len(models)))
    local = {"LOG_FORMAT": "json", "CLUSTER_TOKEN": "chaos"}
    registry_port, gateway_port = next(ports), next(ports)
    service_registry_url = f"http://127.0.0.1:{registry_port}"

    def program(name: str, module: str, port: int, **environment: str) -> Program:
        return Program(name, module, port, {**local, **environment}, folder / f"{name}.log")

    cluster = ChaosCluster(
        gateway=program(
            "gateway",
            "msp_gateway",
            gateway_port,
            GATEWAY_HOST="127.0.0.1",
            GATEWAY_PORT=str(gateway_port),
            SERVICE_REGISTRY_URL=service_registry_url,
            **gateway_settings,
        ),
        service_registry=program(
            "service-registry",
            "msp_service_registry",
            registry_port,
            SERVICE_REGISTRY_HOST="127.0.0.1",
            SERVICE_REGISTRY_PORT=str(registry_port),
        ),
    )
    with ExitStack() as stack:
        for model, kind in models.items():
            registry = FakeModelRegistry(of_model, model_id=model)
            registry_url = stack.enter_context(run_server(registry.app))
            for number in range(replicas):
                port = next(ports)
                worker = program(
                    f"{kind}-{number}",
                    "msp_model_service",
                    port,
                    MODEL_NAME=model,
                    MODEL_TYPE=kind,
                    ENGINE=engine,
                    REGISTRY_URL=registry_url,
                    SERVICE_REGISTRY_URL=service_registry_url,
                    MODEL_CACHE_DIR=str(folder / f"cache-{kind}"),
                    WORKER_HOST="127.0.0.1",
                    WORKER_ID=f"{kind}-{number}",
                    WORKER_URL=f"http://127.0.0.1:{port}",
                    WORKER_PORT=str(port),
                    THREADS="1",
                )
                cluster.workers.setdefault(model, []).append(worker)
        try:
            for each in cluster.programs:
                each.start()
            cluster.wait_ready(patience_s)
            eventually("the gateway is healthy", lambda: cluster.gateway.answers("/health"), PATIENCE_S)
            yield cluster
        finally:
            for each in cluster.programs:
                each.end()
