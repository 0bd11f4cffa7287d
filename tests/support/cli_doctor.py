"""An installation that `msp doctor` examines: healthy, until a test breaks one thing of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msp_cli.doctor.checks import examine
from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Code, Finding, Level
from msp_cli.doctor.gathering import Addresses, gather
from msp_cli.doctor.site import COMMANDS, Answer, PathFacts, Ran, Reached, Unknown

ROOT = "/opt/msp"
ADDRESSES = Addresses("http://gw:8080", "http://reg:8090")
NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
"""NOW, as an HTTP header tells it."""

PASSWORD = "s3cret-root-password"
ENV = f"""\
MINIO_ROOT_USER=msp-root
MINIO_ROOT_PASSWORD={PASSWORD}
MINIO_SVC_USER=msp-registry
MINIO_SVC_PASSWORD=s3cret-svc-password
CLUSTER_TOKEN=s3cret-cluster-token
WORKER_RUNTIME=runc
"""
GPU_LINES = "0, GPU-aaaa, NVIDIA L4, 23034, 4\n1, GPU-bbbb, NVIDIA L4, 23034, 4\n"
MODELS = {"llm": "acme/chat", "embedding": "acme/sentences"}


class FakeSite:
    """A Site in memory. Every attribute may be changed before it is asked; what was asked is remembered."""

    def __init__(self) -> None:
        self.commands: dict[str, Ran | Unknown] = {name: Ran(0, "", "") for name in COMMANDS}
        self.files: dict[str, str | Unknown] = {
            ".env": ENV,
            ".env.example": ENV + "HTTPS_PROXY=\nNO_PROXY=\n",
        }
        self.paths: dict[str, PathFacts | Unknown] = {".env": PathFacts(0o600, 1000, False)}
        self.answers: dict[str, Answer | Unknown] = {}
        self.container_logs: dict[str, str | Unknown] = {}
        self.attempts: dict[str, list[Reached] | Unknown] = {}
        self.asked: list[str] = []
        self.engine: dict[str, Any] = {
            "ServerVersion": "27.5.1",
            "Runtimes": {"runc": {}, "nvidia": {}},
            "DockerRootDir": "/var/lib/docker",
            "CgroupDriver": "systemd",
        }
        self.standard = compose({name: worker(name, model) for name, model in MODELS.items()})
        self.cluster = compose(
            {
                "llm-primary": worker("llm-primary", "acme/chat", gpu="0"),
                "embedding": worker("embedding", "acme/sentences", gpu="GPU-bbbb"),
            }
        )
        self.containers = [container("gateway"), container("registry"), container("minio"), container("llm")]
        self.gateway: dict[str, Any] = {"status": "ok", "authentication": "on", "parts": {}}
        self.registry: dict[str, Any] = {"status": "ok", "parts": {"store": {"status": "ok"}}}
        self.services: list[dict[str, Any]] = [service("gateway", kind="gateway"), service("llm-8000")]
        self.gpu_stats: dict[str, Any] = {"gpus": None, "without_gpu": []}
        self.models: list[dict[str, Any]] = [model(name) for name in MODELS.values()]
        self.jobs: list[dict[str, Any]] = []
        self.commands |= {
            "nvidia-smi": Unknown("nvidia-smi is not installed here", absent=True),
            "pci-vendors": Ran(0, "0x8086\n0x1af4\n", ""),
            "compose-version": Ran(0, "2.40.3\n", ""),
            "listening": Ran(0, "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n", ""),
            "disks": Ran(0, disks(root_gib=400), ""),
            "clock": Ran(0, "yes\n", ""),
        }

    def run(self, name: str) -> Ran | Unknown:
        self.asked.append(name)
        said = self.commands[name]
        if said != Ran(0, "", ""):
            return said
        made = {
            "docker-info": self.engine,
            "compose-config": self.standard,
            "cluster-config": self.cluster,
            "containers": self.containers,
        }
        return Ran(0, json.dumps(made[name]), "") if name in made else said

    def read(self, path: str) -> str | Unknown:
        return self.files.get(path, Unknown(f"{path}: No such file or directory", absent=True))

    def stat(self, path: str) -> PathFacts | Unknown:
        return self.paths.get(path, Unknown(f"{path}: No such file or directory", absent=True))

    def get(self, url: str) -> Answer | Unknown:
        self.asked.append(url)
        if url in self.answers:
            return self.answers[url]
        bodies: dict[str, Any] = {
            "http://gw:8080/health": self.gateway,
            "http://gw:8080/services": {"services": self.services},
            "http://gw:8080/gpu-stats": self.gpu_stats,
            "http://reg:8090/health": self.registry,
            "http://reg:8090/models": {"models": self.models},
            "http://reg:8090/jobs": {"jobs": self.jobs},
        }
        if url in bodies:
            return Answer(200, json.dumps(bodies[url]), DATE)
        return Unknown(f"{url}: connection refused")

    def logs(self, containers: Sequence[str]) -> Mapping[str, str | Unknown]:
        return {name: self.container_logs.get(name, "") for name in containers}

    def probes(self, containers: Sequence[str], image: str | None) -> Mapping[str, list[Reached] | Unknown]:
        self.asked.append(f"probes with {image}")
        return self.attempts

    def now(self) -> float:
        return NOW

    def stop_platform(self) -> None:
        """Nothing of it runs any more."""
        self.containers = []
        for url in ("http://gw:8080/health", "http://gw:8080/services", "http://gw:8080/gpu-stats"):
            self.answers[url] = Unknown("connection refused")
        for url in ("http://reg:8090/health", "http://reg:8090/models", "http://reg:8090/jobs"):
            self.answers[url] = Unknown("connection refused")

    def use_cluster(self, gpus: str = GPU_LINES) -> None:
        """Cluster mode runs, on a host with these GPUs."""
        self.commands["nvidia-smi"] = Ran(0, gpus, "")
        self.containers = [
            container(name, files=f"{ROOT}/docker-compose.gpu-cluster.yml")
            for name in ("gateway", "registry", "llm-primary", "embedding")
        ]

    def env(self, **settings: str) -> None:
        """Add to .env, and to what .env.example explains."""
        for name in (".env", ".env.example"):
            text = self.files[name]
            assert isinstance(text, str)
            self.files[name] = text + "".join(f"{key}={value}\n" for key, value in settings.items())

    def facts(self, *, cluster: bool = False) -> Facts:
        return gather(self, ROOT, ADDRESSES, cluster=cluster)

    def findings(self, *, cluster: bool = False) -> list[Finding]:
        return examine(self.facts(cluster=cluster))

    def found(self, code: Code, *, cluster: bool = False) -> Finding:
        """The gravest finding of this code."""
        order = [Level.PROBLEM, Level.WARNING, Level.UNKNOWN, Level.OK]
        mine = [finding for finding in self.findings(cluster=cluster) if finding.code is code]
        return min(mine, key=lambda finding: order.index(finding.level))


def worker(
    name: str, model_id: str, *, gpu: str | None = None, runtime: str = "runc", **environment: str
) -> dict[str, Any]:
    """A worker in `docker compose config`."""
    made: dict[str, Any] = {"environment": {"MODEL_NAME": model_id, **environment}, "runtime": runtime}
    if gpu is not None:
        devices = [{"driver": "nvidia", "device_ids": gpu.split(","), "capabilities": ["gpu"]}]
        made["deploy"] = {"resources": {"reservations": {"devices": devices}}}
    return made


def compose(workers: dict[str, Any]) -> dict[str, Any]:
    """A whole configuration around these workers."""
    gateway = {"environment": {}, "ports": [{"published": "8080", "target": 8080}]}
    directory = {"environment": {"CLUSTER_TOKEN": "s3cret-cluster-token"}}
    registry = {
        "environment": {"MINIO_SVC_PASSWORD": "s3cret-svc-password"},
        "ports": [{"host_ip": "127.0.0.1", "published": "8090", "target": 8090}],
    }
    return {
        "name": "model-service-platform",
        "services": {
            "gateway": gateway,
            "registry": registry,
            "service-registry": directory,
            **workers,
        },
    }


def container(
    name: str,
    *,
    status: str = "running",
    exit_code: int = 0,
    restarts: int = 0,
    oom: bool = False,
    image: str | None = None,
    project: str = "model-service-platform",
    files: str = f"{ROOT}/docker-compose.yml",
    ports: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    networks: Sequence[str] = (),
) -> dict[str, Any]:
    """One of `docker inspect`."""
    return {
        "Name": f"/{name}",
        "RestartCount": restarts,
        "State": {"Status": status, "ExitCode": exit_code, "OOMKilled": oom, "Health": {"Status": "healthy"}},
        "Config": {
            "Image": image or f"msp/{name}:0.1.0",
            "Env": [f"{key}={value}" for key, value in (env or {}).items()],
            "Labels": {
                "com.docker.compose.project": project,
                "com.docker.compose.service": name,
                "com.docker.compose.project.config_files": files,
            },
        },
        "NetworkSettings": {"Networks": {name: {"Aliases": None} for name in networks}},
        "HostConfig": {
            "PortBindings": {f"{port}/tcp": [{"HostIp": "", "HostPort": str(port)}] for port in ports}
        },
    }


def service(name: str, *, kind: str = "worker", status: str = "ok", **more: Any) -> dict[str, Any]:
    """A line of /services."""
    return {"name": name, "kind": kind, "status": status, "version": "0.1.0", **more}


def model(model_id: str, *, quarantined: bool = False) -> dict[str, Any]:
    """A line of the registry's /models."""
    return {
        "id": model_id,
        "commit": "c" * 40,
        "total_bytes": 1,
        "format": "safetensors",
        "quarantined": quarantined,
    }


def failed_job(message: str) -> dict[str, Any]:
    """A download that came to nothing."""
    return {
        "id": "j1",
        "repo_id": "acme/chat",
        "request": {"kind": "download"},
        "state": "FAILED",
        "error": {"code": "hub", "message": message, "retryable": True},
        "created_at": 1.0,
        "updated_at": 1.0,
    }


def disks(*, root_gib: float, docker_gib: float | None = None) -> str:
    """What df prints."""
    lines = ["Filesystem 1024-blocks Used Available Capacity Mounted on"]
    lines.append(f"/dev/sda1 {500 * 2**20} 1 {int(root_gib * 2**20)} 10% /")
    lines.append("tmpfs 1024 0 0 100% /run/full")
    if docker_gib is not None:
        lines.append(f"/dev/sdb1 {500 * 2**20} 1 {int(docker_gib * 2**20)} 10% /var/lib/docker")
    return "\n".join(lines) + "\n"
