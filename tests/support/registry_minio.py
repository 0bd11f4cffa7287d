"""A real MinIO server for tests, as a process of its own on a free port."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.servers import free_port
from support.store_processes import required_program, running

ROOT_USER = "test-root"
ROOT_PASSWORD = "test-root-secret"


@dataclass(frozen=True)
class MinioServer:
    """Where it listens, and its root account."""

    endpoint: str
    """`host:port`"""
    root_user: str = ROOT_USER
    root_password: str = ROOT_PASSWORD


@contextmanager
def run_minio(folder: Path, endpoint: str | None = None) -> Iterator[MinioServer]:
    """Serve `folder` until the block ends. Skips the test without a MinIO, but fails it in CI.

    `endpoint` is that of an earlier server that is to be started anew.
    """
    program = required_program("minio", "github.com/minio/minio")
    endpoint = endpoint or f"127.0.0.1:{free_port()}"
    console = f"127.0.0.1:{free_port()}"
    command = [program, "server", str(folder), "--quiet", "--address", endpoint, "--console-address", console]
    environment = {
        "HOME": str(folder),
        "MINIO_ROOT_USER": ROOT_USER,
        "MINIO_ROOT_PASSWORD": ROOT_PASSWORD,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    with running(command, environment, f"http://{endpoint}/minio/health/ready"):
        yield MinioServer(endpoint)
