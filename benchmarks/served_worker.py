"""One worker of ours on one core, with its model from a registry of ours on the same machine."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_registry import mirror_s, registry, source
from processes import free_port, pinned, program, until_ready

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Served:
    """Where it is asked, and its process."""

    port: int
    model: str
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def worker(folder: Path, name: str, model_type: str, core: int, **settings: str) -> Iterator[Served]:
    """Serves `folder/models/{name}` as `bench/{name}` once the block begins."""
    port = free_port()
    store = {"REGISTRY_STORE": f"file://{folder}/store"}
    with source(folder / "models", 0) as hub, registry(hub, store) as (url, _):
        mirror_s(url, f"bench/{name}")
        told = ONE_THREAD | {
            "MODEL_NAME": f"bench/{name}",
            "MODEL_TYPE": model_type,
            "MODEL_CACHE_DIR": f"{folder}/cache",
            "DEVICE": "cpu",
            "REGISTRY_URL": url,
            # Nobody is there: a worker without a lease serves those who know its address.
            "SERVICE_REGISTRY_URL": f"http://127.0.0.1:{free_port()}",
            "WORKER_HOST": "127.0.0.1",
            "WORKER_PORT": str(port),
            "LOG_LEVEL": "warning",
            **settings,
        }
        command = pinned([sys.executable, "-m", "msp_model_service"], core)
        with program(command, told, f"http://127.0.0.1:{port}/livez") as process:
            until_ready(f"http://127.0.0.1:{port}/v1/models")
            until_ready(f"http://127.0.0.1:{port}/health")
            yield Served(port, f"bench/{name}", process.pid)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far; unlike the clock, it hardly knows of others on the machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
